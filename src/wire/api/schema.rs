//! JSON schemas of those values that are texts, numbers or a choice of both in JSON, and of pages: a derived
//! one leaves the schema of the items out.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{
    ApiTokenId, ArtifactHash, DeletedEvents, DeviceId, DeviceSort, Epoch, Keep, Number, Page, RunId, TaskId,
    Timestamp, TokenId,
};
use crate::wire::digest::Digest;
use crate::wire::time::WallTime;

fn text(pattern: Option<&str>) -> ObjectBuilder {
    Object::builder().schema_type(Type::String).pattern(pattern)
}

macro_rules! schemas {
    ($($type:ident: $schema:expr;)+) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                stringify!($type).into()
            }
        }
    )+};
}

schemas! {
    ApiTokenId: text(Some("^[0-9a-fA-F]{16}$"));
    ArtifactHash: text(Some("^[0-9a-fA-F]{64}$"));
    DeviceId: text(Some("^[0-9a-fA-F]{16}$"));
    Epoch: text(Some("^[0-9a-fA-F]{16}$"));
    RunId: text(Some("^[0-9a-fA-F]{16}$"));
    TaskId: text(Some("^[0-9a-fA-F]{16}$"));
    TokenId: text(Some("^[0-9a-fA-F]{16}$"));
    Digest: text(Some("^[0-9a-fA-F]+$"));
    DeviceSort: text(None);
    Number: Object::builder().schema_type(Type::Number);
    WallTime: Object::builder().schema_type(Type::Integer).description(Some("Milliseconds since 1970."));
    Timestamp: text(None).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    Keep: OneOfBuilder::new()
        .item(Object::builder().schema_type(Type::Boolean))
        .item(text(None).enum_values(Some(["inherit", "on", "off"])));
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let cursor = SchemaType::from_iter([Type::String, Type::Null]);
        let about = "Begin of the next page; hand it back as it is. Null: this was the last page.";
        Object::builder()
            .property("items", ArrayBuilder::new().items(Ref::from_schema_name(T::name())))
            .required("items")
            .property("next_cursor", Object::builder().schema_type(cursor).description(Some(about)))
            .required("next_cursor")
            .property("deleted", Ref::from_schema_name(DeletedEvents::name()))
            .into()
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into(), T::schema()));
        T::schemas(schemas);
        schemas.push((DeletedEvents::name().into(), DeletedEvents::schema()));
        DeletedEvents::schemas(schemas);
    }
}
