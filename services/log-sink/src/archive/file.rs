//! Entries as a Parquet file. Pure: entries in, bytes out, and back.

use std::sync::Arc;

use bytes::Bytes;
use castlog_log::Entry;
use parquet::{
    basic::Compression,
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        reader::{FileReader as _, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    record::Field,
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

/// What follows from the payload, as the version knew it that wrote the file.
const DERIVED: [&str; 2] = ["event", "data"];

#[derive(Debug, PartialEq)]
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

/// An entry as it stands in a file: the columns that the file has and this version knows.
#[derive(Debug)]
pub(crate) struct Row(Vec<(usize, Value)>);

impl Row {
    /// The sequence of the entry.
    pub(crate) fn sequence(&self) -> Option<u64> {
        let at = COLUMNS.iter().position(|(field, _)| name(field) == "seq")?;
        match self.0.iter().find(|(column, _)| *column == at)? {
            (_, Value::Number(sequence)) => Some(sequence.cast_unsigned()),
            (_, Value::Bytes(_)) => None,
        }
    }

    /// The first column that is not what the entry says.
    pub(crate) fn differs(&self, entry: &Entry) -> Option<&'static str> {
        let differs = |(column, found): &(usize, Value)| {
            let (field, value) = COLUMNS.get(*column)?;
            (!DERIVED.contains(&name(field)) && value(entry) != *found).then(|| name(field))
        };
        self.0.iter().find_map(differs)
    }
}

/// The name in what the schema says of a column.
fn name(field: &'static str) -> &'static str {
    field.split_whitespace().nth(2).unwrap_or_default()
}

/// The rows of a file.
pub(crate) fn rows(bytes: Bytes) -> Result<Vec<Row>, ParquetError> {
    let reader = SerializedFileReader::new(bytes)?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None)? {
        let mut values = Vec::with_capacity(COLUMNS.len());
        for (found, field) in row?.into_columns() {
            // A newer version may have more.
            let Some(column) = COLUMNS.iter().position(|(field, _)| *name(field) == *found) else {
                continue;
            };
            let value = match field {
                Field::Null => Value::Bytes(None),
                Field::Str(text) => self::text(&text),
                Field::Bytes(bytes) => Value::Bytes(Some(bytes)),
                Field::Long(number) | Field::TimestampMicros(number) => Value::Number(number),
                _ => return Err(mismatch()),
            };
            values.push((column, value));
        }
        rows.push(Row(values));
    }
    Ok(rows)
}

fn mismatch() -> ParquetError {
    ParquetError::General("a column has another type than its values".to_owned())
}
