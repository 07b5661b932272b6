import pytest

import koodrive_nb as kd
from koodrive_nb import columns

EXPECTED = {
    "user_id": "string",
    "record_id": "string",
    "module": "category",
    "status": "category",
    "create_time": "datetime64[ms, UTC]",
    "end_time": "datetime64[ms, UTC]",
    "duration_s": "float64",
    "device_id": "string",
    "device_name": "string",
    "device_os": "string",
    "machine_code": "string",
    "device_create_time": "datetime64[ms, UTC]",
    "device_source": "category",
    "module_code": "string",
    "status_code": "Int64",
    "version": "Int64",
    "properties": "string",
    "extra": "string",
    "source": "category",
    "fetched_at": "datetime64[ms, UTC]",
}


def test_types_are_the_same_for_many_rows_one_and_none(service, client, records):
    service.lists([])
    with service.connect() as other:
        none = other.records()
    one = client.record("1842862763295184641")
    assert (len(none), len(one)) == (0, 1)
    for frame in (records, one, none):
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == EXPECTED
        for name in ("module", "status", "device_source", "source"):
            assert str(frame[name].cat.categories.dtype) == "string"


def test_device_types_are_the_same_for_many_rows_and_none(service, devices):
    service.says({"code": 0, "data": None})
    with service.connect() as client:
        none = client.devices()
    assert (len(none), len(devices)) == (0, 11)
    assert list(none.dtypes.astype(str)) == list(devices.dtypes.astype(str))
    assert list(none.columns) == [column.name for column in columns.columns("devices")]


def test_the_schema_describes_the_frame(records):
    table = kd.schema("records")
    assert list(table["column"]) == list(records.columns)
    assert list(table["dtype"]) == list(records.dtypes.astype(str))
    assert (table["meaning"] != "").all()
    by_name = table.set_index("column")
    assert by_name.loc["device_name", "api_field"] == "deviceInfo.deviceName"
    assert by_name.loc["duration_s", "unit"] == "seconds"
    assert by_name.loc["module", "values"] == "folder, album, address_book, unknown"


@pytest.mark.parametrize("dataset", ["nonsense", "", None, []])
def test_an_unknown_dataset_is_refused_with_the_choice(dataset):
    with pytest.raises(kd.InvalidParameterError, match="records, devices"):
        kd.schema(dataset)
