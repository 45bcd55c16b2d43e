-- Who paused the session, by name; nothing while it goes on.
ALTER TABLE session ADD COLUMN paused_by TEXT;
-- The limits of its permit, as JSON; nothing for sessions that were opened before this column.
ALTER TABLE session ADD COLUMN constraints TEXT;
