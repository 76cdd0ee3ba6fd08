"""The statements of ``team``: on its state, its members, and their jobs."""

from __future__ import annotations

from hailuo_async._io.journal.rows import CHANGED, FREE, IS_OVER, LAPSED

#: Notices that one look-up passes on.
MOST_PASSED_ON = 32

FIRST = "FROM member WHERE holder <> :us AND place IS NOT NULL AND lease_until > :now ORDER BY place, holder LIMIT 1"
STATUS = f"""SELECT version, writer, server, clock, state, gone, :now AS read_at,
    {{seen}} AS seen, (SELECT count(*) FROM member WHERE lease_until > :now) AS members,
    (SELECT count(*) FROM member WHERE place < :place AND lease_until > :now) AS ahead,
    (SELECT COALESCE(place, -1) FROM member WHERE holder = :us) AS own_place,
    (SELECT min(CASE WHEN {LAPSED} THEN :now ELSE lease_until END) - :now FROM member WHERE holder <> :us)
        AS lapses_in_s,
    (SELECT place {FIRST}) AS first_place, (SELECT holder {FIRST}) AS first_holder FROM team"""
#: The other members on this machine, whose processes can be asked about, and an empty name for each orphan: a task that
#: no session waits for, and an unsent job that a dead one holds, which need not be a member. ``|| ''`` keeps the index
#: over the states out of it: thousands of kept jobs may wait that no session holds.
LEFT = f"""SELECT holder FROM member WHERE holder <> :us AND holder LIKE :here
    UNION ALL SELECT '' FROM job WHERE state IN ('sending', 'accepted') AND (holder IS NULL OR {LAPSED})
    UNION ALL SELECT '' FROM job WHERE holder IS NOT NULL AND {LAPSED} AND state || '' = 'intended'"""
#: Frees the unsent jobs of dead sessions. A session that is given such a job may send it; its followers are notified.
LET_GO = f"""UPDATE job SET {FREE}, {CHANGED} WHERE state = 'intended' AND holder <> :us
    AND ({IS_OVER} OR holder = :gone)"""
CHANGES = "SELECT identity, state, task_id, holder FROM job WHERE changed >= :since"
#: Always of the same length, so that a server prepares it once.
WORKED_ELSEWHERE = f"""SELECT task_id, holder FROM job
    WHERE task_id IN ({", ".join(f":task_{number}" for number in range(MOST_PASSED_ON))})
        AND state = 'accepted' AND holder IS NOT NULL AND holder <> :us"""
#: A step whose time is ahead, as the clock was set back, would be granted what is held off until then.
WRITE = """UPDATE team SET version = version + 1, writer = :step, server = :server, clock = :clock, state = :state
    WHERE version = :version AND writer = :writer AND server = :was_server AND :now >= :earliest AND NOT EXISTS (
        SELECT 1 FROM member WHERE holder <> :us AND place < :last_place AND lease_until > :now)"""
#: Whether the step that a statement belongs to was made.
MADE = "EXISTS (SELECT 1 FROM team WHERE writer = :step)"
_MEMBER = """INSERT INTO member (holder, lease_until, place) VALUES (:us, :now + :lease_s, :place)
    ON CONFLICT (holder) DO UPDATE SET"""
JOIN, STAND = f"{_MEMBER} lease_until = excluded.lease_until", f"{_MEMBER} place = excluded.place"
