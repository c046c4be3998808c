# Two images: `train` runs run.py, `serve` the page and the API. docs/deploy.md has the commands.
#
#   docker build --target train --tag vaesweep-train .
#   docker build --target serve --tag vaesweep-serve .
#
# They compute on a CPU; --build-arg TORCH_INDEX= takes PyPI's build of torch, which has CUDA.
# What is installed depends on requirements.lock alone, so that a change of the code installs nothing.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 vaesweep
WORKDIR /app
COPY requirements.lock ./
COPY deploy/images/base.txt deploy/images/
RUN python -m pip install --constraint requirements.lock --requirement deploy/images/base.txt \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}

FROM base AS train
# Any user may write here, so that `docker run --user` works.
RUN install --directory --mode=1777 outputs .cache
COPY deploy/images/train.txt deploy/images/
RUN python -m pip install --constraint requirements.lock --requirement deploy/images/train.txt
COPY LICENSE run.py ./
COPY conf conf
COPY decisions decisions
COPY losses losses
COPY models models
COPY experiments experiments
COPY sweeps sweeps
COPY analysis analysis
ARG REVISION=""
ENV VAESWEEP_REVISION=${REVISION}
USER 1000:1000
ENTRYPOINT ["python", "run.py"]

FROM base AS serve
COPY deploy/images/serve.txt deploy/images/
RUN python -m pip install --constraint requirements.lock --requirement deploy/images/serve.txt
COPY LICENSE ./
COPY losses losses
COPY models models
COPY experiments experiments
COPY serving serving
USER 1000:1000
EXPOSE 8000
# Without urllib, which would ask a proxy where one is set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
to = HTTPConnection('127.0.0.1', 8000); \
to.request('GET', '/healthz'); \
raise SystemExit(to.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "serving.app", "--host", "0.0.0.0"]
# A trial or a sweep is mounted there, unless another --checkpoint is named.
CMD ["--checkpoint", "/model"]
