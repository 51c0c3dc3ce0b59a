-- Empty what is due. No row: nothing was, or somebody else is at it.
SELECT slot, about_rows, emptied FROM pgevents.prune_v1()
