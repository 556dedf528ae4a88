//! The switch's state on disk: the newest configuration, whole or the one before.

use super::Configuration;
use crate::datastore::{sync_directory, write_durably};
use berth_wire::codec;
use berth_wire::envelope::{self, Format};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "network";
const FORMAT: Format = Format(0x4e03);
const VERSION: u16 = 1;

pub struct Kept {
    directory: PathBuf,
    held: Configuration,
}

impl Kept {
    /// An error names the file.
    pub fn load(directory: &Path) -> Result<Kept, (PathBuf, io::Error)> {
        let path = directory.join(FILE);
        let held = match fs::read(&path) {
            Ok(bytes) => read(&bytes).map_err(|error| (path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Configuration::default(),
            Err(error) => return Err((path, error)),
        };
        Ok(Kept { directory: directory.to_owned(), held })
    }

    pub fn held(&self) -> &Configuration {
        &self.held
    }

    /// Keeps it before it counts; the same again is kept already.
    pub async fn take(&mut self, configuration: Configuration) -> Result<(), String> {
        if configuration == self.held {
            return Ok(());
        }
        let (held, offered) = (self.held.generation.0, configuration.generation.0);
        if offered <= held {
            return Err(format!("generation {offered} is not above {held}, which is in use"));
        }
        let (directory, kept) = (self.directory.clone(), configuration.clone());
        let stored = tokio::task::spawn_blocking(move || store(&directory, &kept)).await;
        match stored {
            Ok(Ok(())) => {
                self.held = configuration;
                Ok(())
            }
            Ok(Err(error)) => Err(format!("state could not be kept: {error}")),
            Err(panic) => Err(format!("state could not be kept: {panic}")),
        }
    }
}

fn read(bytes: &[u8]) -> io::Result<Configuration> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let (_, payload) = envelope::open(FORMAT, VERSION..=VERSION, bytes)
        .map_err(|error| invalid(error.to_string()))?;
    codec::decode(payload, bytes.len()).map_err(|error| invalid(error.to_string()))
}

fn store(directory: &Path, configuration: &Configuration) -> io::Result<()> {
    let sealed = envelope::seal(FORMAT, VERSION, &codec::encode(configuration));
    let draft = directory.join(format!("{FILE}.new"));
    write_durably(&draft, &sealed)?;
    fs::rename(&draft, directory.join(FILE))?;
    sync_directory(directory)
}
