//! The profile: the API's address and a token, in a file that only its owner can access.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf, is_separator},
};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use tokenry_api::Secret;
use zeroize::Zeroizing;

use super::failure::{Failure, Kind};

/// The data that `tokenry login` stores.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    /// The API's address.
    pub url: String,
    /// The token that the commands send.
    pub token: Secret,
}

/// The maximum length of a profile's name.
const MAX_NAME: usize = 64;

/// Returns the path of a profile. `chosen` is a path if it contains `/` or `.json`, and otherwise a
/// name. The files are in the user's configuration directory (XDG): `tokenry/profiles/NAME.json`,
/// or `tokenry/profile.json` without a name.
///
/// # Errors
/// `chosen` is neither a path nor a valid name, or there is no home directory.
pub fn path(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    let file = match chosen {
        None => "tokenry/profile.json".to_owned(),
        Some(chosen) => {
            let text = chosen.to_string_lossy();
            if text.contains(is_separator) || text.contains(".json") {
                return Ok(chosen.to_owned());
            }
            let of_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if text.len() > MAX_NAME || !text.bytes().all(of_name) {
                return Err(Failure::usage(
                    "a profile is a name of 1 to 64 letters, digits, - and _, or a path that \
                     contains / or .json",
                ));
            }
            format!("tokenry/profiles/{text}.json")
        }
    };
    let strategy = etcetera::choose_base_strategy().map_err(|_| {
        Failure::usage("there is no home directory: give the path of a file with --profile")
    })?;
    Ok(strategy.config_dir().join(file))
}

/// Deletes a profile. Returns whether it existed.
///
/// # Errors
/// The file cannot be deleted.
pub fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let line = format!("cannot delete the profile {}: {error}", path.display());
            Err(Failure::new(Kind::Other, line))
        }
    }
}

impl Profile {
    /// Reads a profile. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read, other users have access to the file, or its content is not a
    /// profile. The error does not repeat the content.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let cannot = |cause: &dyn std::fmt::Display| {
            Failure::usage(format!(
                "cannot use the profile {}: {cause}",
                path.display()
            ))
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot(&error)),
        };
        if let Some(mode) = open_to_others(&file).map_err(|error| cannot(&error))? {
            return Err(cannot(&format!(
                "others have access to it (mode {mode:04o}): run `chmod 600` on it"
            )));
        }
        let mut text = Zeroizing::new(Vec::new());
        file.read_to_end(&mut text)
            .map_err(|error| cannot(&error))?;
        // The parser's message may quote the file, which contains the token.
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            cannot(&format!(
                "it is not JSON with url and token (line {}, column {}); `tokenry login` creates a new profile",
                error.line(),
                error.column()
            ))
        })
    }

    /// Writes the profile atomically. The file already has mode 0600 when the token is written.
    ///
    /// # Errors
    /// The file or its directory cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        self.try_write(path).map_err(|error| {
            let line = format!("cannot write the profile {}: {error}", path.display());
            Failure::new(Kind::Other, line)
        })
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;

        let text = Zeroizing::new(serde_json::to_string(self)?);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

/// Returns the file's mode if users other than its owner have access to the file.
#[cfg(unix)]
fn open_to_others(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;

    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature is the same as on Unix"
)]
fn open_to_others(_file: &File) -> io::Result<Option<u32>> {
    Ok(None)
}
