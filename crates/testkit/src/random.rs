//! Names and passwords that no other test uses.

use std::fmt::Write as _;
use std::io::Read;

/// `bytes` random bytes in hexadecimal.
pub fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .expect("read /dev/urandom");
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A random password with every character that is special to a shell, to SQL, to a URL or to `.env`.
pub fn password() -> String {
    format!("{} '\"$\\`#%@:/?&=+é", hex(8))
}
