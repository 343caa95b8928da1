"""Why a device runs what it runs: facts of every feature, and the reasons that follow from them."""
