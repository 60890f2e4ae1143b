//! Describes a service: its name, its resources and the migrations of their tables.

use database::Migration;

use crate::error::Error;
use crate::resource::Resource;
use crate::table::Table;

/// A service made of resources. A constant.
#[derive(Debug)]
pub struct Application {
    /// The name of its binary, as in logs and `pg_stat_activity`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// One sentence that describes it.
    pub about: &'static str,
    /// Its resources.
    pub resources: &'static [&'static Resource],
    /// The migrations of its schema.
    pub migrations: &'static [Migration],
}

impl Application {
    /// The tables of the resources; fails if a description contradicts itself or another one.
    pub(crate) fn tables(&self) -> Result<Vec<Table>, Error> {
        let mut emitting = self.resources.iter().filter(|resource| !resource.emits.is_empty());
        if let Some(first) = emitting.next()
            && let Some(other) = emitting.find(|resource| resource.exchange != first.exchange)
        {
            let problem = format!("its exchange must be {}, that of the {}", first.exchange, first.plural);
            return Err(Error::Description { name: other.name, problem });
        }
        let tables = self.resources.iter().enumerate();
        tables.map(|(index, resource)| Table::new(index, resource)).collect()
    }
}
