"""Events: one thing that happened, appended in the transaction of the thing itself."""
