//! What can be done with movies. Knows neither HTTP nor SQL.

use crate::error::Error;
use crate::movie::{Movie, MovieChanges, NewMovie};
use crate::repository::{Filter, MovieRows, Repository};

/// What must hold for a movie before it is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing.
    None,
    /// Its version, as text, must be one of these.
    Unchanged(Vec<String>),
}

impl Condition {
    fn holds(&self, movie: &Movie) -> bool {
        match self {
            Self::None => true,
            Self::Unchanged(versions) => versions.contains(&movie.version().to_string()),
        }
    }
}

/// The movies, as one worker thread sees them.
pub(crate) struct MovieService {
    repository: Repository,
}

impl MovieService {
    /// A service on a repository of its own.
    pub(crate) fn new(repository: Repository) -> Self {
        Self { repository }
    }

    /// Whether the movies can be reached at all.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        self.repository.check()
    }

    /// The movie `id`.
    pub(crate) fn get(&mut self, id: i64) -> Result<Movie, Error> {
        self.repository.find(id)?.ok_or(Error::NotFound)
    }

    /// Stores a new movie.
    pub(crate) fn create(&mut self, new: &NewMovie) -> Result<Movie, Error> {
        self.repository.insert(new)
    }

    /// Changes a movie, unless `condition` no longer holds.
    pub(crate) fn update(
        &mut self,
        id: i64,
        changes: &MovieChanges,
        condition: &Condition,
    ) -> Result<Movie, Error> {
        match self.with_check(condition, |repository, check| repository.update(id, changes, check))? {
            None => Err(Error::NotFound),
            Some((_, false)) => Err(Error::Stale),
            Some((movie, true)) => Ok(movie),
        }
    }

    /// Deletes a movie, unless `condition` no longer holds.
    pub(crate) fn delete(&mut self, id: i64, condition: &Condition) -> Result<(), Error> {
        match self.with_check(condition, |repository, check| repository.delete(id, check))? {
            None => Err(Error::NotFound),
            Some(false) => Err(Error::Stale),
            Some(true) => Ok(()),
        }
    }

    /// Deletes all movies and tells how many there were.
    pub(crate) fn delete_all(&mut self) -> Result<u64, Error> {
        self.repository.delete_all()
    }

    /// Starts to read a list.
    pub(crate) fn list(&mut self, filter: &Filter) -> Result<MovieRows<'_>, Error> {
        self.repository.list(filter)
    }

    /// Hands the condition to the repository as a check, or no check when there is nothing to look at first, which
    /// saves the look.
    fn with_check<T>(
        &mut self,
        condition: &Condition,
        work: impl FnOnce(&mut Repository, Option<&dyn Fn(&Movie) -> bool>) -> T,
    ) -> T {
        match condition {
            Condition::None => work(&mut self.repository, None),
            Condition::Unchanged(_) => work(&mut self.repository, Some(&|movie| condition.holds(movie))),
        }
    }
}
