from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority

class ClassifyRequest(_message.Message):
    __slots__ = ("model", "version", "top_k", "encoded_image", "pixels", "priority")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ENCODED_IMAGE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    top_k: int
    encoded_image: bytes
    pixels: Pixels
    priority: Priority
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., top_k: _Optional[int] = ..., encoded_image: _Optional[bytes] = ..., pixels: _Optional[_Union[Pixels, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class Pixels(_message.Message):
    __slots__ = ("count", "data")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    count: int
    data: bytes
    def __init__(self, count: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("model", "version", "predictions", "decode_microseconds")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    decode_microseconds: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., decode_microseconds: _Optional[int] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("classes", "batch_size", "queue_microseconds", "compute_microseconds")
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[RankedClass]
    batch_size: int
    queue_microseconds: int
    compute_microseconds: int
    def __init__(self, classes: _Optional[_Iterable[_Union[RankedClass, _Mapping]]] = ..., batch_size: _Optional[int] = ..., queue_microseconds: _Optional[int] = ..., compute_microseconds: _Optional[int] = ...) -> None: ...

class RankedClass(_message.Message):
    __slots__ = ("index", "label", "probability")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    probability: float
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class ClassifyStreamRequest(_message.Message):
    __slots__ = ("id", "request", "timeout_milliseconds")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    id: int
    request: ClassifyRequest
    timeout_milliseconds: int
    def __init__(self, id: _Optional[int] = ..., request: _Optional[_Union[ClassifyRequest, _Mapping]] = ..., timeout_milliseconds: _Optional[int] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("id", "response", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: int
    response: ClassifyResponse
    status: _status_pb2.Status
    def __init__(self, id: _Optional[int] = ..., response: _Optional[_Union[ClassifyResponse, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "ready", "reason", "crop", "classes", "instances", "resize", "max_batch_size", "caution")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    CAUTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    ready: bool
    reason: str
    crop: int
    classes: int
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    resize: int
    max_batch_size: int
    caution: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., ready: bool = ..., reason: _Optional[str] = ..., crop: _Optional[int] = ..., classes: _Optional[int] = ..., instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., resize: _Optional[int] = ..., max_batch_size: _Optional[int] = ..., caution: _Optional[str] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("device", "backend", "precision", "simulated", "batch_costs")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    BATCH_COSTS_FIELD_NUMBER: _ClassVar[int]
    device: str
    backend: str
    precision: str
    simulated: bool
    batch_costs: _containers.RepeatedCompositeFieldContainer[BatchCost]
    def __init__(self, device: _Optional[str] = ..., backend: _Optional[str] = ..., precision: _Optional[str] = ..., simulated: bool = ..., batch_costs: _Optional[_Iterable[_Union[BatchCost, _Mapping]]] = ...) -> None: ...

class BatchCost(_message.Message):
    __slots__ = ("batch_size", "microseconds")
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    batch_size: int
    microseconds: int
    def __init__(self, batch_size: _Optional[int] = ..., microseconds: _Optional[int] = ...) -> None: ...
