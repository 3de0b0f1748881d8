-- The reason of a dead letter: a hash of its error without ids and numbers (see src/reason.rs). NULL until a sweep has
-- computed it for a dead letter of an older version.
ALTER TABLE events ADD COLUMN error_group INTEGER;
CREATE INDEX events_dead_of_group ON events (error_group, seq) WHERE state = 3;
-- Unfinished events in the order of arrival.
CREATE INDEX events_open ON events (seq) WHERE state <= 1;
