from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget


class CodeForm(forms.Form):
    code = forms.CharField(label="Code", max_length=40, widget=UnfoldAdminTextInputWidget)

    def __init__(self, *args: Any, recovery: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # No `inputmode`: a recovery code has letters.
        attributes = {
            "autocomplete": "one-time-code",
            "x-init": "$nextTick(() => $el.focus())",  # the page is hidden when `autofocus` would look for it
            "spellcheck": "false",
            "autocapitalize": "off",
        }
        self.fields["code"].widget.attrs |= attributes if recovery else {**attributes, "inputmode": "numeric"}
        if recovery:
            self.fields["code"].help_text = "Six digits of your authenticator app, or one of your recovery codes."
