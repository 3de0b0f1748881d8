-- What happened in each minute, in minutes since 1970 by the wall clock.
CREATE TABLE activity (
    minute INTEGER PRIMARY KEY,
    stored INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    retried INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL,
    handler_ms INTEGER NOT NULL,
    max_handler_ms INTEGER NOT NULL,
    max_waiting INTEGER NOT NULL,
    max_overdue_ms INTEGER NOT NULL
);
-- Failed attempts at events that are not completed.
CREATE TABLE failed_attempts (
    seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    fence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    -- microseconds since 1970
    ended INTEGER NOT NULL,
    took_ms INTEGER NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (seq, fence)
) WITHOUT ROWID;
-- Running workers; times in microseconds since 1970.
CREATE TABLE workers (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    running INTEGER NOT NULL,
    started INTEGER NOT NULL,
    seen INTEGER NOT NULL
);
-- A row while workers are paused; microseconds since 1970.
CREATE TABLE pause (id INTEGER PRIMARY KEY CHECK (id = 1), since INTEGER NOT NULL, paused_by TEXT NOT NULL);
