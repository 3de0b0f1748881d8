-- The queues in which an event is behind, for the pass that repairs the column after a crash.
CREATE INDEX smartshape_inbox_behind ON smartshape_inbox_events (file_hash) WHERE state <= 1 AND behind;
UPDATE smartshape_inbox_meta SET value = 6 WHERE name = 'schema';
