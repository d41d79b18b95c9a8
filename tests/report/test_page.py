"""Encoding of data, and the self-contained page."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from histoboost.outputs.encode import floats, jpeg, numbers
from histoboost.report.page import write_page


def test_floats_are_encoded_without_loss():
    values = np.array([[1e-6, 9.25], [np.pi, -0.0]])
    back = np.frombuffer(base64.b64decode(floats(values)), "<f4").reshape(2, 2)
    assert np.array_equal(back, values.astype(np.float32))


def test_json_has_no_nan():
    assert numbers([[1.23456789, np.nan], [np.inf, 0]], 3) == [[1.23, None], [None, 0.0]]


def test_an_encoded_image_is_nearly_the_same():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    picture = np.broadcast_to(ramp[:, None, None], (64, 48, 3)).copy()
    data = base64.b64decode(jpeg(picture).split(",")[1])
    assert abs(np.asarray(Image.open(io.BytesIO(data))).astype(int) - picture).max() < 8


def test_data_that_looks_like_html_stays_in_its_element(tmp_path, page_data):
    nasty = "</script><script>alert(1)</script>&<!--"
    write_page(tmp_path / "p.html", "explore", {"title": nasty})
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page_data(tmp_path / "p.html")["title"] == nasty
    assert "<title>&lt;/script&gt;" in text


def test_no_element_of_a_page_points_outside(tmp_path):
    write_page(tmp_path / "p.html", "explore", {"title": "t"})
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.S)
    assert re.findall(r"(?:src|href)=\"([^\"]*)", markup) == ["data:,"]
    assert "default-src 'none'" in markup
