//! Entries as a Parquet file. Pure: entries in, bytes out.

use std::sync::Arc;

use castlog_log::Entry;
use parquet::{
    basic::Compression,
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

/// The columns. `date` and `kind` are in the path. `payload` is the entry as it
/// was published, with what this version does not know; `data` its canonical JSON.
const SCHEMA: &str = "message entry {
    REQUIRED BYTE_ARRAY stream (UTF8);
    REQUIRED INT64 seq;
    REQUIRED INT64 time (TIMESTAMP(MICROS,true));
    REQUIRED BYTE_ARRAY class (UTF8);
    OPTIONAL BYTE_ARRAY broadcast_id (UTF8);
    OPTIONAL BYTE_ARRAY event (UTF8);
    REQUIRED BYTE_ARRAY id (UTF8);
    REQUIRED BYTE_ARRAY source (UTF8);
    OPTIONAL BYTE_ARRAY traceparent (UTF8);
    REQUIRED BYTE_ARRAY data (UTF8);
    REQUIRED BYTE_ARRAY payload;
}";

/// The file of some entries.
pub(crate) fn write(entries: &[Entry]) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut columns = (0..).map(|index| values(index, entries));
    while let (Some(mut column), Some(values)) = (group.next_column()?, columns.next()) {
        match (column.untyped(), values) {
            (ColumnWriter::ByteArrayColumnWriter(writer), Values::Bytes(values)) => {
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<ByteArray> = values.into_iter().flatten().collect();
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (ColumnWriter::Int64ColumnWriter(writer), Values::Numbers(values)) => {
                writer.write_batch(&values, None, None)?;
            }
            _ => {
                return Err(ParquetError::General(
                    "a column has another type than its values".to_owned(),
                ));
            }
        }
        column.close()?;
    }
    group.close()?;
    writer.into_inner()
}

enum Values {
    Bytes(Vec<Option<ByteArray>>),
    Numbers(Vec<i64>),
}

/// The values of a column of [`SCHEMA`].
fn values(index: usize, entries: &[Entry]) -> Values {
    let texts = |text: fn(&Entry) -> Option<String>| {
        let bytes = |entry: &Entry| text(entry).map(|text| ByteArray::from(text.into_bytes()));
        Values::Bytes(entries.iter().map(bytes).collect())
    };
    match index {
        0 => texts(|entry| Some(entry.position.stream.clone())),
        1 => Values::Numbers(entries.iter().map(|entry| entry.sequence().cast_signed()).collect()),
        2 => Values::Numbers(entries.iter().map(|entry| entry.time.timestamp_micros()).collect()),
        3 => texts(|entry| Some(entry.subject.kind.class().to_owned())),
        4 => texts(|entry| entry.subject.broadcast.map(|id| id.to_string())),
        5 => texts(|entry| entry.event.name().map(str::to_owned)),
        6 => texts(|entry| Some(entry.id.clone())),
        7 => texts(|entry| Some(entry.source.clone())),
        8 => texts(|entry| entry.traceparent.clone()),
        9 => texts(|entry| Some(entry.event.to_json().to_string())),
        _ => Values::Bytes(
            entries
                .iter()
                .map(|entry| Some(ByteArray::from(entry.payload.to_vec())))
                .collect(),
        ),
    }
}
