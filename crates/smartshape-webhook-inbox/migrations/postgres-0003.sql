-- The reason of a dead letter: a hash of its error without ids and numbers (see src/reason.rs). NULL until a sweep has
-- computed it for a dead letter of an older version.
ALTER TABLE smartshape_inbox_events ADD COLUMN error_group bigint;
CREATE INDEX smartshape_inbox_dead_of_group ON smartshape_inbox_events (error_group, seq) WHERE state = 3;
-- Unfinished events in the order of arrival.
CREATE INDEX smartshape_inbox_open ON smartshape_inbox_events (seq) WHERE state <= 1;
UPDATE smartshape_inbox_meta SET value = 3 WHERE name = 'schema';
