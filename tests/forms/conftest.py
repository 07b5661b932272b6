"""What the tests of forms share: no widget of one is left for the next, and a way to be a hand."""

import pytest
from ipywidgets.widgets.widget import _instances


@pytest.fixture(autouse=True)
def _close_widgets():
    yield
    for widget in list(_instances.values()):
        widget.close()


@pytest.fixture
def front_end():
    """Give a front end of a widget: it sends what is set there, and returns what it is told."""

    class FrontEnd:
        def __init__(self, widget):
            self.widget, self.told = widget, []
            widget.comm.send = lambda data, buffers=None: self.told.append(data)

        def sets(self, **state):
            self.sends({"method": "update", "state": state, "buffer_paths": []})

        def sends(self, data):
            self.message = {"content": {"data": data}, "buffers": []}
            self.widget._handle_msg(self.message)

    return FrontEnd
