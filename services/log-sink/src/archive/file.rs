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

type Column = (&'static str, fn(&Entry) -> Value);

/// The columns: as the schema says it, and the value of an entry. `date` and `kind`
/// are in the path. `payload` is the entry as it was published, with what this
/// version does not know; `data` its canonical JSON.
const COLUMNS: [Column; 11] = [
    ("REQUIRED BYTE_ARRAY stream (UTF8)", |e| text(&e.position.stream)),
    ("REQUIRED INT64 seq", |e| Value::Number(e.sequence().cast_signed())),
    ("REQUIRED INT64 time (TIMESTAMP(MICROS,true))", |e| {
        Value::Number(e.time.timestamp_micros())
    }),
    ("REQUIRED BYTE_ARRAY class (UTF8)", |e| text(e.subject.kind.class())),
    ("OPTIONAL BYTE_ARRAY broadcast_id (UTF8)", |e| {
        optional(e.subject.broadcast.map(|id| id.to_string()))
    }),
    ("OPTIONAL BYTE_ARRAY event (UTF8)", |e| optional(e.event.name())),
    ("REQUIRED BYTE_ARRAY id (UTF8)", |e| text(&e.id)),
    ("REQUIRED BYTE_ARRAY source (UTF8)", |e| text(&e.source)),
    ("OPTIONAL BYTE_ARRAY traceparent (UTF8)", |e| {
        optional(e.traceparent.as_deref())
    }),
    ("REQUIRED BYTE_ARRAY data (UTF8)", |e| {
        text(&e.event.to_json().to_string())
    }),
    ("REQUIRED BYTE_ARRAY payload", |e| {
        Value::Bytes(Some(e.payload.to_vec().into()))
    }),
];

enum Value {
    Bytes(Option<ByteArray>),
    Number(i64),
}

fn text(text: &str) -> Value {
    optional(Some(text))
}

fn optional(text: Option<impl AsRef<str>>) -> Value {
    Value::Bytes(text.map(|text| ByteArray::from(text.as_ref().as_bytes().to_vec())))
}

/// The file of some entries.
pub(crate) fn write(entries: &[Entry]) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let fields = COLUMNS.map(|(field, _)| format!("{field};")).concat();
    let schema = Arc::new(parse_message_type(&format!("message entry {{ {fields} }}"))?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (_, value) in COLUMNS {
        let Some(mut column) = group.next_column()? else { break };
        let values = entries.iter().map(value);
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let values = values.map(|value| match value {
                    Value::Bytes(bytes) => Ok(bytes),
                    Value::Number(_) => Err(mismatch()),
                });
                let values: Vec<Option<ByteArray>> = values.collect::<Result<_, _>>()?;
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<ByteArray> = values.into_iter().flatten().collect();
                writer.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let values = values.map(|value| match value {
                    Value::Number(number) => Ok(number),
                    Value::Bytes(_) => Err(mismatch()),
                });
                writer.write_batch(&values.collect::<Result<Vec<_>, _>>()?, None, None)?;
            }
            _ => return Err(mismatch()),
        }
        column.close()?;
    }
    group.close()?;
    writer.into_inner()
}

fn mismatch() -> ParquetError {
    ParquetError::General("a column has another type than its values".to_owned())
}
