"""The program on the device that speaks to the server: flash, journal, slots, the conversation, and its driver."""
