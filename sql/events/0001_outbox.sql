-- The events that wait to be published. An event is written in the transaction of the change that it tells of, and
-- deleted once the broker has confirmed it.
CREATE TABLE outbox (
    -- The order in which they are published. Changes of one record wait for each other, so its events are in order.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- By this id, consumers recognise an event that arrives twice.
    message_id uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Its name and version, which is the topic that it is published under: room.created.1
    event text NOT NULL,
    -- The record that was changed: TABLE/KEY
    record text NOT NULL,
    -- The body, JSON.
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
