-- Which order a message became, and why others became none, so that both can be asked for by the message's id.

ALTER TABLE processed_messages ADD COLUMN order_id bigint;

-- Rows arrive nearly in the order of these ids.
CREATE INDEX processed_messages_order ON processed_messages USING brin (order_id) WITH (autosummarize = on);

CREATE TABLE dead_messages (
    message_id text PRIMARY KEY,
    reason text NOT NULL,
    dead_at timestamptz NOT NULL DEFAULT now(),
    -- It was sent back to the queue, and is not known to be dead again.
    requeued boolean NOT NULL DEFAULT false
);
