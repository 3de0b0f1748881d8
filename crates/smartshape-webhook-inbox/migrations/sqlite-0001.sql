-- Times are those of the storage's clock, in milliseconds (see src/storage/sqlite/clock.rs); only triggered and
-- received are times of day, in microseconds since 1970.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- file_hash is the event's queue: a hash of its file and webhook, by which events are ordered. settled is when the event
-- was completed, or became a dead letter.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL,
    key BLOB NOT NULL UNIQUE,
    -- 0 waiting, 1 running, 2 completed, 3 dead letter
    state INTEGER NOT NULL,
    -- waiting: due time; running: end of its lease
    due INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    file_hash INTEGER NOT NULL,
    event TEXT NOT NULL,
    file TEXT NOT NULL,
    uuid TEXT NOT NULL,
    owner TEXT,
    secret TEXT,
    traceparent TEXT,
    triggered INTEGER,
    received INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    settled INTEGER,
    error TEXT
);
CREATE INDEX events_due ON events (due, state, stored) WHERE state <= 1;
CREATE INDEX events_open_of_file ON events (file_hash, seq) WHERE state <= 1;
CREATE INDEX events_at_work_of_file ON events (file_hash) WHERE state = 1;
CREATE INDEX events_completed ON events (settled) WHERE state = 2;
CREATE INDEX events_dead ON events (seq) WHERE state = 3;
-- Apart, so that a change of state does not write a long body again.
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
INSERT INTO meta (name, value) VALUES ('clock', 0), ('reads_from', 1);
