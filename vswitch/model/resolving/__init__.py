"""From files to the frozen site: names looked up, lists expanded, everything checked."""
