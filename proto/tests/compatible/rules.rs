//! What may change between two schemas, in whichever direction entries go.
//!
//! Stricter than the wire: the JSON mapping shows names, so a name stays, and a
//! type stays although another would be read from the same bytes.

use std::collections::BTreeMap;

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// What breaks a reader or a writer of either schema, one line each.
pub(crate) fn breaks(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (Schema::of(old), Schema::of(new));
    let mut lines = Vec::new();
    for (name, old) in &old.messages {
        match new.messages.get(name) {
            Some(new) => message(name, old, new, &mut lines),
            None => lines.push(format!("{name}: it is gone")),
        }
    }
    for (name, old) in &old.enums {
        match new.enums.get(name) {
            Some(new) => choice(name, old, new, &mut lines),
            None => lines.push(format!("{name}: it is gone")),
        }
    }
    lines
}

/// castlog's own messages and enums by their full names.
#[derive(Default)]
struct Schema<'s> {
    messages: BTreeMap<String, &'s DescriptorProto>,
    enums: BTreeMap<String, &'s EnumDescriptorProto>,
}

impl<'s> Schema<'s> {
    fn of(set: &'s FileDescriptorSet) -> Self {
        let mut schema = Self::default();
        for file in set.file.iter().filter(|file| file.package().starts_with("castlog")) {
            schema.add(file.package(), &file.message_type, &file.enum_type);
        }
        schema
    }

    fn add(&mut self, scope: &str, messages: &'s [DescriptorProto], enums: &'s [EnumDescriptorProto]) {
        for choice in enums {
            self.enums.insert(format!("{scope}.{}", choice.name()), choice);
        }
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type);
            self.messages.insert(name, message);
        }
    }
}

/// Names and numbers of a message or of an enum, and those set aside.
struct Names {
    members: BTreeMap<i32, String>,
    /// First and last.
    numbers: Vec<(i32, i32)>,
    names: Vec<String>,
}

impl Names {
    fn reserves(&self, number: i32) -> bool {
        self.numbers
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
    }
}

/// The rules that fields and enum values share.
fn names(scope: &str, old: &Names, new: &Names, lines: &mut Vec<String>) {
    for (number, name) in &old.members {
        let label = format!("{scope}.{name} = {number}");
        match new.members.get(number) {
            Some(other) if other != name => lines.push(format!("{label}: its name is {other}")),
            Some(_) => {}
            None if new.reserves(*number) && new.names.contains(name) => {}
            None => lines.push(format!(
                "{label}: it is gone without being reserved by number and by name"
            )),
        }
    }
    for (number, name) in &new.members {
        let label = format!("{scope}.{name} = {number}");
        let before = old.members.iter().find(|(_, known)| *known == name);
        if let Some((before, _)) = before.filter(|(before, _)| *before != number) {
            lines.push(format!("{label}: its name had the number {before}"));
        }
        if old.reserves(*number) {
            lines.push(format!("{label}: the number is reserved"));
        }
        if old.names.contains(name) {
            lines.push(format!("{label}: the name is reserved"));
        }
    }
    for (first, last) in &old.numbers {
        // A range up to the greatest number is looked at by its ends.
        if let Some(lost) = [*first, *last].into_iter().find(|number| !new.reserves(*number)) {
            lines.push(format!("{scope}: {lost} is not reserved any more"));
        }
    }
    for lost in old.names.iter().filter(|name| !new.names.contains(name)) {
        lines.push(format!("{scope}: {lost:?} is not reserved any more"));
    }
}

fn message(scope: &str, old: &DescriptorProto, new: &DescriptorProto, lines: &mut Vec<String>) {
    let of = |message: &DescriptorProto| Names {
        members: message
            .field
            .iter()
            .map(|f| (f.number(), f.name().to_owned()))
            .collect(),
        // The end of a message's range is behind it.
        numbers: message
            .reserved_range
            .iter()
            .map(|r| (r.start(), r.end() - 1))
            .collect(),
        names: message.reserved_name.clone(),
    };
    names(scope, &of(old), &of(new), lines);
    for field in &old.field {
        let Some(other) = new.field.iter().find(|other| other.number() == field.number()) else {
            continue;
        };
        let label = format!("{scope}.{} = {}", field.name(), field.number());
        if type_of(field) != type_of(other) {
            lines.push(format!("{label}: its type is {}", type_of(other)));
        }
        if field.label() != other.label() {
            lines.push(format!("{label}: its label is {:?}", other.label()));
        }
        if field.json_name() != other.json_name() {
            lines.push(format!("{label}: its JSON name is {}", other.json_name()));
        }
        if field.proto3_optional() != other.proto3_optional() {
            let presence = if other.proto3_optional() {
                "explicit"
            } else {
                "implicit"
            };
            lines.push(format!("{label}: its presence is {presence}"));
        } else if oneof(old, field) != oneof(new, other) {
            let name = |oneof: Option<&str>| oneof.unwrap_or("no oneof").to_owned();
            lines.push(format!(
                "{label}: it is in {}, and was in {}",
                name(oneof(new, other)),
                name(oneof(old, field))
            ));
        }
    }
}

fn choice(scope: &str, old: &EnumDescriptorProto, new: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let of = |choice: &EnumDescriptorProto| Names {
        members: choice.value.iter().map(|v| (v.number(), v.name().to_owned())).collect(),
        numbers: choice.reserved_range.iter().map(|r| (r.start(), r.end())).collect(),
        names: choice.reserved_name.clone(),
    };
    names(scope, &of(old), &of(new), lines);
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.type_name() {
        "" => format!("{:?}", field.r#type()),
        name => name.to_owned(),
    }
}

/// The name of the oneof that a field is in.
fn oneof<'m>(message: &'m DescriptorProto, field: &FieldDescriptorProto) -> Option<&'m str> {
    let index = usize::try_from(field.oneof_index?).ok()?;
    message.oneof_decl.get(index).map(|oneof| oneof.name())
}
