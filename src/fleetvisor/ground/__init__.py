"""The ground floor: SIDs, errors, the clock port, pages and limits; imports nothing of ours."""
