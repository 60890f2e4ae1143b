//! Schemas of OpenAPI documents: of fields, records and errors.

use serde_json::{Map, Value, json};

use crate::describe::rules;
use crate::field::{Field, FieldType};
use crate::resource::Errors;

/// The name of a record's schema: `MyPizza` for `my pizza`. OpenAPI allows letters, digits and `-`, `_`, `.`.
pub(crate) fn schema_name(name: &str) -> String {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric());
    words
        .map(|word| word[..word.len().min(1)].to_ascii_uppercase() + word.get(1..).unwrap_or_default())
        .collect()
}

/// The name of the schema of errors in this form.
pub(crate) fn error_schema(errors: Errors) -> &'static str {
    match errors {
        Errors::Plain => "Problem",
        Errors::Detail => "ProblemDetail",
    }
}

/// The schema of errors in this form.
pub(crate) fn error(errors: Errors) -> Value {
    let fields = json!({
        "description": "The fields or query parameters that break a rule, and which.",
        "type": "object",
        "additionalProperties": {"type": "string"},
    });
    json!({
        "type": "object",
        "required": [errors.member(), "code"],
        "properties": {
            errors.member(): {"type": "string", "description": "What went wrong, in words for people."},
            "code": {
                "type": "string",
                "pattern": "^[a-z0-9_]+$",
                "description": "The stable name of the error, for programs; the gateway's document lists them.",
            },
            "fields": fields,
        },
        "examples": [{
            errors.member(): "title is required", "code": "field_invalid", "fields": {"title": "is required"},
        }],
    })
}

/// A reference to the schema of this name.
pub(crate) fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schema of an object with these fields.
pub(crate) fn object<'f>(
    fields: impl Iterator<Item = &'f Field>,
    is_required: impl Fn(&Field) -> bool,
) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields {
        properties.insert(field.name.to_owned(), field_schema(field));
        if is_required(field) {
            required.push(field.name);
        }
    }
    json!({"type": "object", "required": required, "properties": properties})
}

/// The same with an example.
pub(crate) fn record<'f>(
    fields: impl Iterator<Item = &'f Field> + Clone,
    is_required: impl Fn(&Field) -> bool,
) -> Value {
    let mut schema = object(fields.clone(), is_required);
    schema["examples"] = json!([example_of(fields)]);
    schema
}

fn example_of<'f>(fields: impl Iterator<Item = &'f Field>) -> Value {
    Value::Object(fields.map(|field| (field.name.to_owned(), example(field))).collect())
}

/// A value that the rules of the field's kind allow. A resource's own check may want another one.
pub(crate) fn example(field: &Field) -> Value {
    match field.kind {
        FieldType::Text { min, max, .. } => {
            let text: String = field.name.chars().cycle().take(min.max(field.name.len()).min(max)).collect();
            text.into()
        }
        FieldType::Url => "https://example.org/".into(),
        FieldType::Uuid => "2f1c7f0e-0c9b-4f3b-9a53-5f7a4c0d8e11".into(),
        FieldType::Integer { min, max } => 1.clamp(min, max).into(),
        FieldType::Decimal { precision, scale, bounds } => {
            let (min, max) = bounds.unwrap_or((0, i64::from(precision > scale)));
            1.clamp(min, max).into()
        }
        FieldType::Boolean => true.into(),
        FieldType::Date => "2026-01-31".into(),
        FieldType::Timestamp => "2026-01-31T12:00:00Z".into(),
        FieldType::Word(words) => words.first().copied().into(),
        FieldType::Object(fields) => example_of(fields.iter()),
        FieldType::Array { element, max } => json!(vec![example(element); max.min(1)]),
    }
}

/// The schema of one field's values.
pub(crate) fn field_schema(field: &Field) -> Value {
    let mut schema = match field.kind {
        FieldType::Text { min, max, .. } => json!({"type": "string", "minLength": min, "maxLength": max}),
        FieldType::Url => json!({"type": "string", "format": "uri", "maxLength": 2048}),
        FieldType::Uuid => json!({"type": "string", "format": "uuid"}),
        FieldType::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        FieldType::Decimal { bounds: Some((min, max)), .. } => {
            json!({"type": "number", "minimum": min, "maximum": max})
        }
        FieldType::Decimal { .. } => json!({"type": "number"}),
        FieldType::Boolean => json!({"type": "boolean"}),
        FieldType::Date => json!({"type": "string", "format": "date"}),
        FieldType::Timestamp => json!({"type": "string", "format": "date-time"}),
        FieldType::Word(words) => json!({"type": "string", "enum": words}),
        FieldType::Object(fields) => object(fields.iter(), |field| field.required),
        FieldType::Array { element, max } => {
            // An element is always there, and never null.
            let element = Field { required: true, default: None, ..*element };
            json!({"type": "array", "maxItems": max, "items": field_schema(&element)})
        }
    };
    if field.is_nullable() {
        schema["type"] = json!([schema["type"], "null"]);
        if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            words.push(Value::Null);
        }
    }
    let about =
        if field.about.is_empty() { rules(field) } else { format!("{} ({})", field.about, rules(field)) };
    schema["description"] = about.into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_keeps_the_rules_of_its_field() {
        for (field, expected) in [
            (Field::text("title").length(1..=3), json!("tit")),
            (Field::text("title").length(7..=9), json!("titleti")),
            (Field::integer("n").range(5..=9), json!(5)),
            (Field::integer("n").range(-9..=-5), json!(-5)),
            (Field::word("kind", &["meat", "vegan"]), json!("meat")),
        ] {
            assert_eq!(example(&field), expected);
        }
    }

    #[test]
    fn a_field_may_be_null_and_an_element_may_not() {
        const IMAGE: Field = Field::object("image", &[Field::url("url").required()]);
        assert_eq!(field_schema(&IMAGE)["type"], json!(["object", "null"]));
        let images = field_schema(&Field::array("images", &IMAGE, 3).default("[]"));
        assert_eq!((&images["type"], &images["items"]["type"]), (&json!("array"), &json!("object")));
    }

    #[test]
    fn a_schema_has_a_name_that_openapi_allows() {
        for (name, expected) in [("movie", "Movie"), ("my pizza", "MyPizza"), ("x-ray 2", "XRay2"), ("", "")]
        {
            assert_eq!(schema_name(name), expected);
        }
    }
}
