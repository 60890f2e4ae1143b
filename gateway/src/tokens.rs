//! The tokens that are valid now: those of `GATEWAY_TOKENS` and of a file, whose changes are taken up.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foundation::Shutdown;

use crate::error::Error;
use crate::settings::TokenSettings;
use crate::token_table::{Owner, TokenFault, TokenTable};

/// How often the file is looked at. A change is taken up once the file was the same at two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The largest file, in bytes; enough for ten thousand tokens.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The tokens that are valid now. While a file names them, changes of the file are taken up.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// Those of `GATEWAY_TOKENS`.
    fixed: TokenTable,
    file: Option<PathBuf>,
    /// Held for one lookup or one replacement, never while a file is read.
    current: RwLock<TokenTable>,
}

impl Tokens {
    /// Reads the tokens, and has a thread take up changes of their file until `shutdown`. `None` if no tokens are
    /// configured. A file without any token is an answer, too: nobody gets in.
    pub(crate) fn start(settings: &TokenSettings, shutdown: &Shutdown) -> Result<Option<Arc<Self>>, Error> {
        let Some(tokens) = Self::load(settings)? else { return Ok(None) };
        let (tokens, stamp) = tokens;
        let tokens = Arc::new(tokens);
        if let Some(file) = tokens.file.clone() {
            let (tokens, shutdown) = (tokens.clone(), shutdown.clone());
            thread::Builder::new()
                .name("tokens".to_owned())
                .spawn(move || tokens.watch(&file, stamp, &shutdown))
                .map_err(|source| Error::Io { action: "start a thread", source })?;
        }
        Ok(Some(tokens))
    }

    /// Reads the tokens once; `None` if no tokens are configured.
    pub(crate) fn load(settings: &TokenSettings) -> Result<Option<(Self, Option<Stamp>)>, Error> {
        let TokenSettings { fixed, file } = settings.clone();
        let (current, stamp) = match &file {
            None if fixed.is_empty() => return Ok(None),
            None => (fixed.clone(), None),
            Some(path) => {
                let stamp = Stamp::of(path);
                let table = read_file(path, fixed.clone())
                    .map_err(|problem| foundation::Error::setting("GATEWAY_TOKENS_FILE", problem))?;
                (table, stamp)
            }
        };
        Ok(Some((Self { fixed, file, current: RwLock::new(current) }, stamp)))
    }

    /// The owner of the token that a client sent.
    pub(crate) fn owner(&self, sent: &[u8]) -> Result<Owner, TokenFault> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.current.read().unwrap_or_else(PoisonError::into_inner).owner(sent, now_s)
    }

    /// Looks at the file until `shutdown`. `taken` is the state of the file that was read last.
    fn watch(&self, file: &Path, mut taken: Option<Stamp>, shutdown: &Shutdown) {
        let mut before = taken;
        while !shutdown.wait_timeout(LOOK_INTERVAL) {
            let now = Stamp::of(file);
            // A file that changes between two looks may still be being written.
            let settled = now == before;
            before = now;
            if !settled || now == taken {
                continue;
            }
            taken = now;
            match read_file(file, self.fixed.clone()) {
                Ok(table) => {
                    log::info!("{} tokens are valid after a change of {}", table.len(), file.display());
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = table;
                }
                Err(problem) => log::warn!("the tokens stay as they were: {problem}"),
            }
        }
    }
}

/// What tells a changed file from an unchanged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// `None` if there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), length: metadata.len(), changed })
    }
}

/// The tokens of the file and `fixed`. The error names the file.
fn read_file(path: &Path, fixed: TokenTable) -> Result<TokenTable, String> {
    let failed = |problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| failed(&error))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(failed(&format_args!("it is larger than {FILE_MAX_BYTES} bytes")));
    }
    let table = TokenTable::parse(text.lines()).map_err(|problem| failed(&problem))?;
    fixed.with(table).map_err(|problem| failed(&problem))
}
