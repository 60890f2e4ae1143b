-- A search for a provider's rooms in a range of prices reads only what it finds.
CREATE INDEX rooms_provider_price ON rooms (provider, price, id);
