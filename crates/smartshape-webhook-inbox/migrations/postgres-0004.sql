-- What happened in each minute, in minutes since 1970 by the clocks of the processes.
CREATE TABLE smartshape_inbox_activity (
    minute bigint PRIMARY KEY,
    stored bigint NOT NULL,
    completed bigint NOT NULL,
    retried bigint NOT NULL,
    dead_letters bigint NOT NULL,
    handler_ms bigint NOT NULL,
    max_handler_ms bigint NOT NULL,
    max_waiting bigint NOT NULL,
    max_overdue_ms bigint NOT NULL
);
-- Failed attempts at events that are not completed.
CREATE TABLE smartshape_inbox_failed_attempts (
    seq bigint NOT NULL REFERENCES smartshape_inbox_events (seq) ON DELETE CASCADE,
    fence bigint NOT NULL,
    number integer NOT NULL,
    ended timestamptz NOT NULL,
    took_ms bigint NOT NULL,
    error text NOT NULL,
    PRIMARY KEY (seq, fence)
);
-- Running workers.
CREATE TABLE smartshape_inbox_workers (
    id bigint PRIMARY KEY,
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    concurrency bigint NOT NULL,
    running bigint NOT NULL,
    started timestamptz NOT NULL,
    seen timestamptz NOT NULL
);
-- A row while workers are paused.
CREATE TABLE smartshape_inbox_pause (id integer PRIMARY KEY CHECK (id = 1), since timestamptz NOT NULL, paused_by text NOT NULL);
UPDATE smartshape_inbox_meta SET value = 4 WHERE name = 'schema';
