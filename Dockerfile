# The web page and the REST API, with haar, yunet, mediapipe and unet: docker build -t faceblur .
#
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL -p 127.0.0.1:8000:8000 faceblur
#
# prints an address with a token. For a token of your own: -e FACEBLUR_TOKEN=…, 16 letters or more.
FROM python:3.12-slim-bookworm AS build
RUN pip install --no-cache-dir uv && python -m venv /app
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY faceblur_core faceblur_core
COPY configs configs
COPY plugins plugins
# uv, for it takes the pins from pyproject.toml and keeps a second OpenCV out.
RUN uv pip install --no-cache --python /app/bin/python \
    . ./plugins/faceblur-opencv ./plugins/faceblur-mediapipe ./plugins/faceblur-unet ./plugins/faceblur-web
# All models that can be downloaded, checked by their checksums: the container needs no network.
RUN FACEBLUR_CACHE=/models /app/bin/python -c "from faceblur_core.plugins import installed_plugins; \
from faceblur_core.weights import locate; \
[locate(w) for i in installed_plugins().infos for _, c in i.components for w in c.weights if w.url]"

FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 libgles2 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 faceblur
COPY --from=build /app /app
COPY --from=build /models /models
ENV PATH=/app/bin:$PATH FACEBLUR_CACHE=/models FACEBLUR_OFFLINE=1 FACEBLUR_TOKEN=new PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER faceblur
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:8000/health', timeout=5)"]
ENTRYPOINT ["faceblur", "serve", "--host", "0.0.0.0"]
