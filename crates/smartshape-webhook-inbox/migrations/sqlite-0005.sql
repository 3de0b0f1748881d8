-- Times of the storage's clock are the wall clock's plus this, in milliseconds. Older versions go on with the time in
-- 'clock', which counts while a process has the file open, and is recorded by them alone.
INSERT INTO meta (name, value)
SELECT 'clock_offset', value - CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM meta WHERE name = 'clock';
