//! Header of GGUF files. Checks what candle, which parses it, does not: the alignment, by which it divides, and that
//! each tensor lies within the file. A tensor of absurd dimensions would otherwise overflow their product.

use std::io::{self, Read, Seek, SeekFrom};

use candle_core::quantized::gguf_file::{Content, TensorInfo};

/// Metadata key of the alignment of tensors.
const ALIGNMENT_KEY: &[u8] = b"general.alignment";
/// Maximum length of a key, as the format specifies.
const KEY_BYTES_MAX: u64 = 65_535;
/// Numbers of types in the format.
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;
/// Bytes of each type; 0 for types of variable size.
const TYPE_BYTES: [u64; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

/// Reads and checks the header. Returns it, or a description of the fault.
pub(super) fn read<R: Read + Seek>(reader: &mut R) -> Result<Content, String> {
    let size = reader.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    reader.rewind().map_err(|error| error.to_string())?;
    check_metadata(&mut *reader, size).map_err(|error| error.to_string())?;
    reader.rewind().map_err(|error| error.to_string())?;
    let content = Content::read(reader).map_err(|error| error.to_string())?;
    for (name, info) in &content.tensor_infos {
        let end = tensor_bytes(info)
            .and_then(|bytes| bytes.checked_add(info.offset)?.checked_add(content.tensor_data_offset));
        if end.is_none_or(|end| end > size) {
            return Err(format!("tensor {name} has more values than the file"));
        }
    }
    Ok(content)
}

/// Returns the size of a tensor in bytes; `None` if a dimension is 0 or the size overflows.
fn tensor_bytes(info: &TensorInfo) -> Option<u64> {
    let values = info.shape.dims().iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    let blocks = values.div_ceil(info.ggml_dtype.block_size());
    u64::try_from(blocks.checked_mul(info.ggml_dtype.type_size())?).ok().filter(|&bytes| bytes > 0)
}

/// Walks the metadata. Fails if the alignment is not a positive number, or if a value extends past the file.
fn check_metadata(reader: &mut (impl Read + Seek), size: u64) -> io::Result<()> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    if number::<4>(reader)? != *b"GGUF" {
        return Err(invalid("it does not begin with GGUF"));
    }
    let version = u32::from_le_bytes(number(reader)?);
    if !matches!(version, 2 | 3) {
        return Err(invalid("its version is not 2 or 3"));
    }
    let (_tensors, entries) = (length(reader)?, length(reader)?);
    for _ in 0..entries {
        let key_bytes = length(reader)?;
        if key_bytes > KEY_BYTES_MAX {
            return Err(invalid("a key is too long"));
        }
        let mut key = vec![0; key_bytes as usize];
        reader.read_exact(&mut key)?;
        let kind = u32::from_le_bytes(number(reader)?);
        if key == ALIGNMENT_KEY {
            let bytes = *TYPE_BYTES.get(kind as usize).ok_or_else(|| invalid("a type is unknown"))?;
            let mut value = Vec::new();
            reader.by_ref().take(bytes).read_to_end(&mut value)?;
            if value.iter().all(|&byte| byte == 0) {
                return Err(invalid("its alignment is not a positive number"));
            }
            continue;
        }
        skip(reader, kind, size)?;
    }
    Ok(())
}

/// Skips a value. Arrays of arrays, which no checkpoint has, are refused.
fn skip(reader: &mut (impl Read + Seek), kind: u32, size: u64) -> io::Result<()> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    let bytes_of = |kind: u32| TYPE_BYTES.get(kind as usize).copied().ok_or_else(|| invalid("a type is unknown"));
    let (kind, count) = match kind {
        TYPE_ARRAY => (u32::from_le_bytes(number(reader)?), length(reader)?),
        kind => (kind, 1),
    };
    match kind {
        TYPE_STRING => {
            for _ in 0..count {
                let bytes = length(reader)?;
                advance(reader, bytes, size)?;
            }
            Ok(())
        }
        TYPE_ARRAY => Err(invalid("an array contains arrays")),
        kind => advance(reader, bytes_of(kind)?.saturating_mul(count), size),
    }
}

/// Skips bytes. Fails if they extend past the file.
fn advance(reader: &mut (impl Read + Seek), bytes: u64, size: u64) -> io::Result<()> {
    let left = size.saturating_sub(reader.stream_position()?);
    match i64::try_from(bytes) {
        // Relative, so that buffered data is kept.
        Ok(skipped) if bytes <= left => reader.seek_relative(skipped),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a value extends past the end")),
    }
}

fn length(reader: &mut impl Read) -> io::Result<u64> {
    number(reader).map(u64::from_le_bytes)
}

fn number<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::checkpoint::fuzz::gguf_file;

    fn problem(alignment: u32, dimensions: [u64; 2]) -> Option<String> {
        read(&mut Cursor::new(gguf_file(alignment, dimensions))).err()
    }

    #[test]
    fn a_tensor_past_the_file_and_an_alignment_of_zero_are_refused() {
        assert_eq!(problem(32, [32, 2]), None);
        assert!(problem(0, [32, 2]).unwrap().contains("alignment"));
        for dimensions in [[32, 1 << 20], [1 << 33, 1 << 31], [u64::MAX, u64::MAX], [32, 0]] {
            assert!(problem(32, dimensions).unwrap().contains("more values"), "{dimensions:?}");
        }
    }
}
