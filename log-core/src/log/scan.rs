//! Walks the batches of a segment's file by `read_at`, never through the map: a device that answers
//! EIO, or a file that is shorter than it should be, is an error here and a SIGBUS there.

use std::io;

use crate::record::{BatchError, LENGTH_FIELD_END, OVERHEAD, RecordBatch};
use crate::storage::ReadAt;

/// How much of each batch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The header alone. Records are skipped, which costs one read a batch where batches are large.
    Headers,
    /// All of it, and the checksum is verified.
    Whole,
}

/// What lies at the scanner's position.
#[derive(Debug)]
pub(crate) enum Step<'b> {
    /// A batch that follows the one before. At [`Depth::Headers`] it is a view of the header with no
    /// records behind it.
    Batch { position: u64, batch: RecordBatch<'b> },
    /// The end of the range.
    End,
    /// Something that is not the batch of `next_offset`. The scanner stays where it is.
    Bad { position: u64, next_offset: i64, reason: String },
}

/// A lending iterator over the batches of `[position, end)`.
#[derive(Debug)]
pub(crate) struct BatchScanner<'a> {
    file: &'a dyn ReadAt,
    depth: Depth,
    position: u64,
    end: u64,
    /// The offset that the next batch has to start at: the checksum leaves the base offset out, so
    /// contiguity is what tells a batch of this place from an old one in a recycled block.
    next_offset: i64,
    buffer: Vec<u8>,
    /// File position of `buffer[0]`.
    buffer_start: u64,
    header: [u8; OVERHEAD],
}

/// Bytes read at a time where whole batches are wanted.
const WHOLE_READ_BYTES: u64 = 1 << 20;
/// Bytes read at a time where only headers are: small batches are taken many at once, and large ones
/// are skipped over.
const HEADERS_READ_BYTES: u64 = 16 << 10;

impl<'a> BatchScanner<'a> {
    /// A scanner of the batches from `position` on, the first of which starts at `next_offset`.
    pub(crate) fn new(
        file: &'a dyn ReadAt,
        depth: Depth,
        position: u64,
        end: u64,
        next_offset: i64,
    ) -> BatchScanner<'a> {
        BatchScanner {
            file,
            depth,
            position,
            end,
            next_offset,
            buffer: Vec::new(),
            buffer_start: 0,
            header: [0; OVERHEAD],
        }
    }

    /// Where the next batch starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The offset after the last batch that was found.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The next batch, or why there is none.
    ///
    /// # Errors
    /// Of the device, and of memory that a batch of this length cannot be had for.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        let position = self.position;
        let size = match self.size_at_position()? {
            Ok(size) => size,
            Err(reason) => return Ok(Step::Bad { position, next_offset: self.next_offset, reason }),
        };
        let bytes = match self.depth {
            Depth::Whole => {
                self.fill(size)?;
                &self.buffer[self.index()..]
            }
            Depth::Headers => {
                let at = self.index();
                self.header.copy_from_slice(&self.buffer[at..at + OVERHEAD]);
                // The header becomes a batch of its own, without records, so that the one parser
                // checks it.
                let length = (OVERHEAD - LENGTH_FIELD_END) as i32;
                self.header[8..12].copy_from_slice(&length.to_be_bytes());
                &self.header[..]
            }
        };
        let batch = match RecordBatch::parse(bytes) {
            Ok(batch) => batch,
            Err(error) => {
                return Ok(Step::Bad { position, next_offset: self.next_offset, reason: error.to_string() });
            }
        };
        if batch.base_offset() != self.next_offset {
            let reason = format!("offset {} where {} was due", batch.base_offset(), self.next_offset);
            return Ok(Step::Bad { position, next_offset: self.next_offset, reason });
        }
        if self.depth == Depth::Whole
            && let Err(error) = batch.verify_crc()
        {
            return Ok(Step::Bad { position, next_offset: self.next_offset, reason: error.to_string() });
        }
        self.position += size;
        self.next_offset = batch.next_offset();
        Ok(Step::Batch { position, batch })
    }

    /// The size of the batch at the position as its length field says, if that lies in the range.
    fn size_at_position(&mut self) -> io::Result<Result<u64, String>> {
        let left = self.end - self.position;
        if left < OVERHEAD as u64 {
            return Ok(Err(BatchError::Truncated { needed: OVERHEAD, have: left as usize }.to_string()));
        }
        self.fill(OVERHEAD as u64)?;
        let at = self.index();
        let length = i32::from_be_bytes(self.buffer[at + 8..at + 12].try_into().expect("four bytes"));
        let Some(size) = u64::try_from(length).ok().map(|length| length + LENGTH_FIELD_END as u64) else {
            return Ok(Err(BatchError::Corrupt("length is negative").to_string()));
        };
        if size < OVERHEAD as u64 {
            return Ok(Err(BatchError::Corrupt("length is below that of a header").to_string()));
        }
        if size > left {
            return Ok(Err(BatchError::Truncated { needed: size as usize, have: left as usize }.to_string()));
        }
        Ok(Ok(size))
    }

    /// Makes the `wanted` bytes from the position on available in the buffer. `wanted` has been
    /// checked against the range, so it is bounded by the file.
    fn fill(&mut self, wanted: u64) -> io::Result<()> {
        let have_from = self.buffer_start;
        let have_to = self.buffer_start + self.buffer.len() as u64;
        if have_from <= self.position && self.position + wanted <= have_to {
            return Ok(());
        }
        let read_bytes = match self.depth {
            Depth::Whole => WHOLE_READ_BYTES,
            Depth::Headers => HEADERS_READ_BYTES,
        };
        let size = read_bytes.max(wanted).min(self.end - self.position);
        self.buffer.resize(size as usize, 0);
        self.buffer_start = self.position;
        match read_exact_at(self.file, self.position, &mut self.buffer) {
            // Where what is read ahead cannot be had, what is wanted perhaps can.
            Err(_) if size > wanted => {
                self.buffer.truncate(wanted as usize);
                read_exact_at(self.file, self.position, &mut self.buffer)
            }
            done => done,
        }
        .inspect_err(|_| self.buffer.clear())
    }

    fn index(&self) -> usize {
        (self.position - self.buffer_start) as usize
    }
}

/// Fills `buffer` from `position` on.
///
/// # Errors
/// Of the device; `UnexpectedEof` when the file ends before.
pub(crate) fn read_exact_at(file: &dyn ReadAt, position: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(position + done as u64, &mut buffer[done..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}

/// Where the bytes that are not zero end in `[from, to)`; `from` if there are none.
pub(crate) fn end_of_data(file: &dyn ReadAt, from: u64, to: u64) -> io::Result<u64> {
    let mut buffer = vec![0; WHOLE_READ_BYTES.min(to.saturating_sub(from)) as usize];
    let mut end = from;
    let mut at = from;
    while at < to {
        let chunk = &mut buffer[..WHOLE_READ_BYTES.min(to - at) as usize];
        read_exact_at(file, at, chunk)?;
        if let Some(last) = chunk.iter().rposition(|&byte| byte != 0) {
            end = at + last as u64 + 1;
        }
        at += chunk.len() as u64;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Disk, PARTITION, batch};
    use super::*;
    use crate::storage::{SegmentFile, create_segment};
    use std::sync::Arc;

    /// A segment of batches from offset 0 on, and their positions; some are larger than a read.
    fn segment(disk: &Disk) -> (Arc<dyn SegmentFile>, Vec<u64>) {
        disk.storage.create_dir_all(PARTITION).expect("room");
        let path = format!("{PARTITION}/00000000000000000000.log");
        let file = create_segment(&*disk.storage, &path, 8 << 20, 8 << 20).expect("room");
        let (large, huge) = ("x".repeat(40_000), "y".repeat(3 << 20));
        let mut positions = Vec::new();
        for (offset, value) in ["a", &large, "b", "c", &huge, "d"].into_iter().enumerate() {
            let bytes = batch(5, &[value]).to_bytes(offset as i64, 3);
            positions.push(file.published());
            file.append(file.published(), &[&bytes]).expect("room");
        }
        (file, positions)
    }

    fn walk(file: &dyn SegmentFile, depth: Depth, end: u64) -> (Vec<u64>, Option<u64>) {
        let mut scanner = BatchScanner::new(file, depth, 0, end, 0);
        let mut positions = Vec::new();
        loop {
            match scanner.step().expect("readable") {
                Step::Batch { position, batch } => {
                    assert_eq!(batch.base_offset(), positions.len() as i64);
                    assert_eq!(batch.partition_leader_epoch(), 3);
                    positions.push(position);
                }
                Step::End => return (positions, None),
                Step::Bad { position, .. } => return (positions, Some(position)),
            }
        }
    }

    #[test]
    fn every_batch_is_found_at_either_depth() {
        let disk = Disk::new();
        let (file, positions) = segment(&disk);
        for depth in [Depth::Headers, Depth::Whole] {
            assert_eq!(walk(&*file, depth, file.published()), (positions.clone(), None));
            // A range that ends inside a batch ends at that batch.
            let cut = walk(&*file, depth, file.published() - 1);
            assert_eq!(cut, (positions[..5].to_vec(), Some(positions[5])));
        }
        // Zeros are no batch.
        let (_, bad) = walk(&*file, Depth::Whole, file.published() + 100);
        assert_eq!(bad, Some(file.published()));
    }

    #[test]
    fn a_changed_byte_is_seen_where_it_matters() {
        let disk = Disk::new();
        let (file, positions) = segment(&disk);
        let random = disk.storage.open_random(file.path(), false).expect("there");
        // In the records of the second batch: only the checksum knows.
        random.write_at(positions[1] + 500, b"?").expect("room");
        assert_eq!(walk(&*file, Depth::Whole, file.published()).1, Some(positions[1]));
        assert_eq!(walk(&*file, Depth::Headers, file.published()).1, None);
        // In its base offset, which the checksum leaves out.
        random.write_at(positions[1] + 7, &[9]).expect("room");
        assert_eq!(walk(&*file, Depth::Headers, file.published()).1, Some(positions[1]));
    }

    #[test]
    fn zeros_at_the_end_are_no_data() {
        let disk = Disk::new();
        let (file, _) = segment(&disk);
        let end = file.published();
        assert_eq!(end_of_data(&*file, end, 8 << 20).expect("readable"), end);
        let random = disk.storage.open_random(file.path(), false).expect("there");
        random.write_at(end + (3 << 20), &[1]).expect("room");
        assert_eq!(end_of_data(&*file, end, 8 << 20).expect("readable"), end + (3 << 20) + 1);
    }
}
