//! Rows as a Parquet file, a row group a page.
//!
//! Knows no database.
//!
//! Invariant: the columns are those of `export::cells`, in their order and with their kinds.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::export::{Cell, cells};
use crate::ledger::entry::Entry;
use crate::team::{CallId, RouteName, TeamName};

pub(super) struct Table<W: Write + Send> {
    /// Begun with the first page; an empty book still makes a file with its columns.
    writer: Result<SerializedFileWriter<W>, String>,
}

impl<W: Write + Send> Table<W> {
    pub(super) fn new(file: W) -> Self {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = schema()
            .and_then(|schema| SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(told));
        Self { writer }
    }

    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<(), String> {
        let writer = self.writer.as_mut().map_err(|error| error.clone())?;
        let rows: Vec<Vec<Cell>> =
            entries.iter().map(|entry| cells(entry).into_iter().map(|(_, cell)| cell).collect()).collect();
        let mut group = writer.next_row_group().map_err(told)?;
        let mut idx = 0;
        while let Some(mut column) = group.next_column().map_err(told)? {
            let of_column = rows.iter().map(|row| &row[idx]);
            write_column(column.untyped(), of_column).map_err(told)?;
            column.close().map_err(told)?;
            idx += 1;
        }
        group.close().map_err(told)?;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), String> {
        self.writer?.close().map_err(told)?;
        Ok(())
    }
}

fn told(error: ParquetError) -> String {
    format!("the file cannot be written: {error}")
}

fn schema() -> Result<TypePtr, String> {
    let id = CallId::new(0, [0; 10]);
    let example = Entry::draft(id, 0, TeamName::from(""), "", RouteName::from(""));
    let fields = cells(&example).into_iter().map(|(name, cell)| {
        let (physical, logical) = match cell {
            Cell::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Cell::Int(_) => (Physical::INT64, None),
            Cell::Real(_) => (Physical::DOUBLE, None),
            Cell::Bool(_) => (Physical::BOOLEAN, None),
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        field.build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>().map_err(told)?;
    Type::group_type_builder("call").with_fields(fields).build().map(Arc::new).map_err(told)
}

fn write_column<'a>(
    column: &mut ColumnWriter<'_>,
    cells: impl Iterator<Item = &'a Cell> + Clone,
) -> Result<(), ParquetError> {
    let is_there = |cell: &Cell| match cell {
        Cell::Text(text) => text.is_some(),
        Cell::Int(number) => number.is_some(),
        Cell::Real(number) => number.is_some(),
        Cell::Bool(_) => true,
    };
    let levels: Vec<i16> = cells.clone().map(|cell| i16::from(is_there(cell))).collect();
    let levels = Some(levels.as_slice());
    match column {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let text = |cell: &Cell| match cell {
                Cell::Text(text) => text.as_deref().map(ByteArray::from),
                Cell::Int(_) | Cell::Real(_) | Cell::Bool(_) => None,
            };
            writer.write_batch(&cells.filter_map(text).collect::<Vec<_>>(), levels, None)?;
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let number = |cell: &Cell| match cell {
                Cell::Int(number) => *number,
                Cell::Text(_) | Cell::Real(_) | Cell::Bool(_) => None,
            };
            writer.write_batch(&cells.filter_map(number).collect::<Vec<_>>(), levels, None)?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let number = |cell: &Cell| match cell {
                Cell::Real(number) => *number,
                Cell::Text(_) | Cell::Int(_) | Cell::Bool(_) => None,
            };
            writer.write_batch(&cells.filter_map(number).collect::<Vec<_>>(), levels, None)?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let bit = |cell: &Cell| match cell {
                Cell::Bool(is) => Some(*is),
                Cell::Text(_) | Cell::Int(_) | Cell::Real(_) => None,
            };
            writer.write_batch(&cells.filter_map(bit).collect::<Vec<_>>(), levels, None)?;
        }
        ColumnWriter::Int32ColumnWriter(_)
        | ColumnWriter::Int96ColumnWriter(_)
        | ColumnWriter::FloatColumnWriter(_)
        | ColumnWriter::FixedLenByteArrayColumnWriter(_) => {
            return Err(ParquetError::General("a column of a kind that no cell has".to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::money::NanoUsd;

    #[test]
    fn what_is_written_is_read_back_with_its_absent_values() {
        let entry = |nth: u8, cost: Option<i64>| Entry {
            cost: cost.map(NanoUsd::new),
            user: cost.map(|_| "ann".to_owned()),
            estimated: cost.is_none(),
            ..Entry::draft(
                CallId::new(5, [nth; 10]),
                5,
                TeamName::from("search"),
                "/v1",
                RouteName::from("auto"),
            )
        };
        let mut bytes = Vec::new();
        let mut table = Table::new(&mut bytes);
        table.write(&[entry(1, Some(7)), entry(2, None)]).unwrap();
        table.write(&[entry(3, Some(9))]).unwrap();
        table.finish().unwrap();

        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();

        let column = |row: usize, name: &str| {
            rows[row]
                .get_column_iter()
                .find(|(known, _)| *known == name)
                .map(|(_, field)| field.clone())
                .unwrap()
        };
        assert_eq!(rows.len(), 3);
        assert_eq!(column(0, "cost_nano_usd"), Field::Long(7));
        assert_eq!(column(1, "cost_nano_usd"), Field::Null);
        assert_eq!(column(1, "user_name"), Field::Null);
        assert_eq!(column(2, "user_name"), Field::Str("ann".to_owned()));
        assert_eq!(column(1, "estimated"), Field::Bool(true));
    }
}
