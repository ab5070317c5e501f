"""The API against its own description: schemathesis makes requests, good and bad, and checks every answer."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from skimage import data

from faceblur_core.media.images import encode_pixels
from faceblur_web.allowed import Catalogue
from faceblur_web.app import make_app
from faceblur_web.limits import Limits

HOST = {"host": "localhost"}
TOKEN = "a-token-for-the-tests"
SMALL = encode_pixels(data.astronaut()[:240, 100:340], "JPEG")
catalogue, limits = Catalogue(), Limits(megabytes=1, megapixels=1, video_megabytes=1, jobs=1000)
bounded = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

open_schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(catalogue, limits), headers=HOST)
token_schema = schemathesis.openapi.from_asgi(
    "/openapi.json", make_app(catalogue, limits, token=TOKEN), headers={**HOST, "authorization": f"Bearer {TOKEN}"}
)
# A schema cannot say which methods there are, nor what is a picture.
UNSAID = [positive_data_acceptance]


@open_schema.parametrize()
@bounded
def test_every_answer_is_as_described(case):
    case.call_and_validate(headers=HOST, excluded_checks=UNSAID)


@open_schema.parametrize()
@bounded
def test_so_it_is_where_there_is_a_face(case):
    """The same with a method and a photo that exist."""
    if case.method == "POST":
        case.body, case.media_type = SMALL, "application/octet-stream"
        case.query = {**(case.query if isinstance(case.query, dict) else {}), "method": ["yunet"]}
    case.call_and_validate(headers=HOST, excluded_checks=[*UNSAID, negative_data_rejection])  # what was wrong may be mended


@token_schema.parametrize()
@settings(bounded, max_examples=20)
def test_without_the_token_nothing_is_answered(case):
    assert case.call_and_validate(headers=HOST, excluded_checks=UNSAID).status_code == 401
