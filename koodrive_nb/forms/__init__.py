"""Forms for exploring records without writing code, which show the code that gives the same.

Every form works without a front end too: values that are set from code do what a hand would do.
"""

from koodrive_nb.forms.connect import ConnectForm
from koodrive_nb.forms.explorer import Explorer
from koodrive_nb.forms.lookup import RecordForm

__all__ = ["ConnectForm", "Explorer", "RecordForm"]
