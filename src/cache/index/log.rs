//! The file behind the scan index: records appended one after another, each with its checksum.
//!
//! Not durable against a loss of power: nothing is synced, because what is lost is only cached.
//!
//! Invariants: reading stops at the first record that is not whole and cuts the file there, so that
//! whatever is appended later is read back; a failed append leaves no part of its records behind.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

mod record;

use record::FRAME_BYTES;
pub(super) use record::{Record, encode, upsert_bytes};

const MAGIC: &[u8; 8] = b"stvsem1\n";
const MAX_RECORD_BYTES: usize = 64 << 20;
const READ_BYTES: usize = 1 << 20;

pub(super) struct Log {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl Log {
    /// Opens or creates the file, hands every whole record to `replay` in order, and tells how many
    /// bytes were cut off after the last of them.
    pub(super) fn open(path: &Path, mut replay: impl FnMut(Record)) -> io::Result<(Self, u64)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let found_bytes = file.metadata()?.len();
        let mut whole_bytes = 0;
        let mut reader = BufReader::with_capacity(READ_BYTES, &file);
        let mut magic = [0; MAGIC.len()];
        if read_whole(&mut reader, &mut magic)? && magic == *MAGIC {
            whole_bytes = MAGIC.len() as u64;
            let mut body = Vec::new();
            while let Some(record) = read_record(&mut reader, &mut body)? {
                whole_bytes += (FRAME_BYTES + body.len()) as u64;
                replay(record);
            }
        }
        let mut log = Self { path: path.to_owned(), file, size_bytes: whole_bytes };
        log.file.set_len(whole_bytes)?;
        log.file.seek(SeekFrom::Start(whole_bytes))?;
        if whole_bytes == 0 {
            log.file.write_all(MAGIC)?;
            log.size_bytes = MAGIC.len() as u64;
        }
        Ok((log, found_bytes - whole_bytes))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Appends encoded records, all or none.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        match self.file.write_all(frames) {
            Ok(()) => {
                self.size_bytes += frames.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.size_bytes)?;
                self.file.seek(SeekFrom::Start(self.size_bytes))?;
                Err(error)
            }
        }
    }

    /// Puts a file with only `records` in the place of this one, at once or not at all.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut writer = BufWriter::new(File::create(&beside)?);
        writer.write_all(MAGIC)?;
        let mut size_bytes = MAGIC.len() as u64;
        let mut frame = Vec::new();
        for record in records {
            frame.clear();
            encode(&record, &mut frame);
            writer.write_all(&frame)?;
            size_bytes += frame.len() as u64;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Before the rename, or a crash could leave an empty file under the old name.
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        self.file = file;
        self.size_bytes = size_bytes;
        Ok(())
    }
}

/// The next record, and what it was read from; `None` at the end or where a record is not whole.
fn read_record(reader: &mut impl Read, body: &mut Vec<u8>) -> io::Result<Option<Record>> {
    let mut frame = [0; FRAME_BYTES];
    if !read_whole(reader, &mut frame)? {
        return Ok(None);
    }
    let [a, b, c, d, checksum @ ..] = frame;
    let n_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    if n_bytes == 0 || n_bytes > MAX_RECORD_BYTES {
        return Ok(None);
    }
    body.resize(n_bytes, 0);
    if !read_whole(reader, body)? || crc32fast::hash(body) != u32::from_le_bytes(checksum) {
        return Ok(None);
    }
    Ok(record::decode(body))
}

/// Whether there was enough to fill `bytes`.
fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
