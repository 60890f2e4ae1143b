-- The orders, and the inbox that makes sure that each message becomes one order.

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 64),
    number_of_items integer NOT NULL CHECK (number_of_items BETWEEN 1 AND 1000000),
    total_amount numeric(12, 2) NOT NULL CHECK (total_amount >= 0)
);

-- A broker may deliver a message more than once, and a client may send an order twice under one Idempotency-Key. The
-- transaction that stores an order notes its message here; a second one with the same id stores nothing.
CREATE TABLE processed_messages (
    message_id text PRIMARY KEY,
    processed_at timestamptz NOT NULL DEFAULT now()
);

-- Old entries are deleted by age; rows arrive in the order of their time, which is what a BRIN index is for.
CREATE INDEX processed_messages_age ON processed_messages USING brin (processed_at);
