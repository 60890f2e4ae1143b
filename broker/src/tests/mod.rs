//! Tests that need more than one module: log, queues and recovery together on a disk in memory that crashes, fails and
//! rots; and noise against the decoders. What a client sees is tested at the wire, in the crate's own `tests` folder.

mod damage;
mod decoders;
mod failures;
mod keeping;
mod life;
pub(crate) mod memory_storage;
mod model;
mod salvage;
