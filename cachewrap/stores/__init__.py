"""The stores: where entries live."""
