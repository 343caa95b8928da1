"""The edge of hawkBit's DDI, ``/{tenant}/controller/v1``."""
