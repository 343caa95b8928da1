"""The wire vocabulary: pure codecs and tables that server and device share; no IO, no clock."""
