-- Whether nothing that a cursor has yet to see was emptied out of the log. To be asked AFTER the reading that it
-- vouches for: TRUNCATE takes rows even from under an older snapshot, and a check before the read would not see it.
-- Lost may be what ended before an emptying (is visible in its snapshot), is not above its greatest xid, and is not
-- visible in the cursor: everything from the cursor's xmax on, and those that were running when it was taken. Of
-- these, what runs still, or ran still at the emptying, had its rows protected by its lock; what was rolled back
-- had none. Without that, one transaction that stays open for longer than the log keeps would be a gap for all.
-- A record above today's xids is of another cluster: it came here in a dump, and means nothing.
-- Parameters: xmax, xip.
SELECT NOT EXISTS (
    SELECT FROM pgevents.emptied AS e
    WHERE e.max_xid < pg_snapshot_xmax(pg_current_snapshot()) AND (
        e.max_xid >= (%(xmax)s)::xid8
        OR EXISTS (
            SELECT FROM unnest((%(xip)s)::xid8[]) AS x (xid)
            -- In this order: to ask for the status of an xid in the future, of a forged cursor, is an error.
            WHERE CASE WHEN x.xid <= e.max_xid AND pg_visible_in_snapshot(x.xid, e.snapshot)
                THEN pg_xact_status(x.xid) IS DISTINCT FROM 'aborted' ELSE false END
        )
    )
)
