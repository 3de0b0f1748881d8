-- Whether another unfinished event of its queue (those of the same file_hash) must end before it is attempted. Ordered
-- workers claim only events that are not behind: of each queue the earliest, unless a later one is running. Triggers
-- keep the column, whichever version of the program writes.
ALTER TABLE events ADD COLUMN behind INTEGER NOT NULL DEFAULT 0;
UPDATE events SET behind = 1 WHERE state <= 1
    AND EXISTS (SELECT 1 FROM events o WHERE o.state <= 1 AND o.file_hash = events.file_hash AND o.seq < events.seq);
CREATE INDEX events_heads ON events (due, state, stored) WHERE state <= 1 AND behind = 0;

CREATE TRIGGER events_arrived AFTER INSERT ON events
WHEN EXISTS (SELECT 1 FROM events o WHERE o.state <= 1 AND o.file_hash = NEW.file_hash AND o.seq < NEW.seq)
BEGIN
    UPDATE events SET behind = 1 WHERE seq = NEW.seq;
END;

CREATE TRIGGER events_ended AFTER UPDATE OF state ON events
WHEN OLD.state <= 1 AND NEW.state >= 2 AND OLD.behind = 0
BEGIN
    UPDATE events SET behind = 0
    WHERE seq = (SELECT min(o.seq) FROM events o WHERE o.state <= 1 AND o.file_hash = NEW.file_hash);
END;

-- Retried, released or replayed: an earlier event may be waiting, or a later one that is not behind.
CREATE TRIGGER events_returned AFTER UPDATE OF state ON events
WHEN NEW.state = 0 AND (OLD.state >= 2 OR OLD.state = 1 AND OLD.behind = 0)
BEGIN
    UPDATE events SET behind = 1 WHERE state = 0 AND seq IN (NEW.seq, (SELECT min(o.seq) FROM events o
        WHERE o.state <= 1 AND o.file_hash = NEW.file_hash AND o.seq > NEW.seq));
    UPDATE events SET behind = 0
    WHERE seq = (SELECT min(o.seq) FROM events o WHERE o.state <= 1 AND o.file_hash = NEW.file_hash)
        AND NOT EXISTS (SELECT 1 FROM events w WHERE w.state = 1 AND w.file_hash = NEW.file_hash AND w.behind = 0);
END;
