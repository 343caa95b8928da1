from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OpaqueManifest(_message.Message):
    __slots__ = ("signer_id", "body", "signature")
    SIGNER_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signer_id: int
    body: bytes
    signature: bytes
    def __init__(self, signer_id: _Optional[int] = ..., body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class AppManifest(_message.Message):
    __slots__ = ("signer_id", "body", "signature")
    class AppBody(_message.Message):
        __slots__ = ("layers", "debug", "crash", "update", "connectivity")
        LAYERS_FIELD_NUMBER: _ClassVar[int]
        DEBUG_FIELD_NUMBER: _ClassVar[int]
        CRASH_FIELD_NUMBER: _ClassVar[int]
        UPDATE_FIELD_NUMBER: _ClassVar[int]
        CONNECTIVITY_FIELD_NUMBER: _ClassVar[int]
        layers: _containers.RepeatedCompositeFieldContainer[AppLayerReference]
        debug: DebugPolicy
        crash: CrashPolicy
        update: UpdatePolicy
        connectivity: ConnectivityPolicy
        def __init__(self, layers: _Optional[_Iterable[_Union[AppLayerReference, _Mapping]]] = ..., debug: _Optional[_Union[DebugPolicy, _Mapping]] = ..., crash: _Optional[_Union[CrashPolicy, _Mapping]] = ..., update: _Optional[_Union[UpdatePolicy, _Mapping]] = ..., connectivity: _Optional[_Union[ConnectivityPolicy, _Mapping]] = ...) -> None: ...
    SIGNER_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signer_id: int
    body: AppManifest.AppBody
    signature: bytes
    def __init__(self, signer_id: _Optional[int] = ..., body: _Optional[_Union[AppManifest.AppBody, _Mapping]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class AppLayerReference(_message.Message):
    __slots__ = ("target", "encrypted_with_key_id", "fetch_hash", "measurement_hash")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_WITH_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    FETCH_HASH_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_HASH_FIELD_NUMBER: _ClassVar[int]
    target: AppLayerRegion
    encrypted_with_key_id: int
    fetch_hash: bytes
    measurement_hash: bytes
    def __init__(self, target: _Optional[_Union[AppLayerRegion, _Mapping]] = ..., encrypted_with_key_id: _Optional[int] = ..., fetch_hash: _Optional[bytes] = ..., measurement_hash: _Optional[bytes] = ...) -> None: ...

class AppLayerRegion(_message.Message):
    __slots__ = ("internal_flash", "external_flash")
    INTERNAL_FLASH_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FLASH_FIELD_NUMBER: _ClassVar[int]
    internal_flash: InternalFlashRegion
    external_flash: SpiFlashRegion
    def __init__(self, internal_flash: _Optional[_Union[InternalFlashRegion, _Mapping]] = ..., external_flash: _Optional[_Union[SpiFlashRegion, _Mapping]] = ...) -> None: ...

class InternalFlashRegion(_message.Message):
    __slots__ = ("start", "size")
    START_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    start: int
    size: int
    def __init__(self, start: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class SpiFlashRegion(_message.Message):
    __slots__ = ("start", "size")
    START_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    start: int
    size: int
    def __init__(self, start: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class DebugPolicy(_message.Message):
    __slots__ = ("debuggable", "debug_auth_pubkey")
    DEBUGGABLE_FIELD_NUMBER: _ClassVar[int]
    DEBUG_AUTH_PUBKEY_FIELD_NUMBER: _ClassVar[int]
    debuggable: bool
    debug_auth_pubkey: bytes
    def __init__(self, debuggable: _Optional[bool] = ..., debug_auth_pubkey: _Optional[bytes] = ...) -> None: ...

class CrashPolicy(_message.Message):
    __slots__ = ("minimum_restart_ms", "maximum_restart_ms", "crash_report_pubkey", "include_stack_bytes")
    MINIMUM_RESTART_MS_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_RESTART_MS_FIELD_NUMBER: _ClassVar[int]
    CRASH_REPORT_PUBKEY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_STACK_BYTES_FIELD_NUMBER: _ClassVar[int]
    minimum_restart_ms: int
    maximum_restart_ms: int
    crash_report_pubkey: bytes
    include_stack_bytes: int
    def __init__(self, minimum_restart_ms: _Optional[int] = ..., maximum_restart_ms: _Optional[int] = ..., crash_report_pubkey: _Optional[bytes] = ..., include_stack_bytes: _Optional[int] = ...) -> None: ...

class UpdatePolicy(_message.Message):
    __slots__ = ("maximum_politeness_time_sec", "minimum_kernel_version")
    MAXIMUM_POLITENESS_TIME_SEC_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_KERNEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    maximum_politeness_time_sec: int
    minimum_kernel_version: int
    def __init__(self, maximum_politeness_time_sec: _Optional[int] = ..., minimum_kernel_version: _Optional[int] = ...) -> None: ...

class ConnectivityPolicy(_message.Message):
    __slots__ = ("connection_grace_time_sec", "minimum_check_in_time_sec")
    CONNECTION_GRACE_TIME_SEC_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_CHECK_IN_TIME_SEC_FIELD_NUMBER: _ClassVar[int]
    connection_grace_time_sec: int
    minimum_check_in_time_sec: int
    def __init__(self, connection_grace_time_sec: _Optional[int] = ..., minimum_check_in_time_sec: _Optional[int] = ...) -> None: ...

class NewKeys(_message.Message):
    __slots__ = ("signer_id", "body", "signature")
    class Body(_message.Message):
        __slots__ = ("delete_manifest_signers", "delete_layer_decrypters", "add_manifest_signers", "add_layer_decrypters")
        DELETE_MANIFEST_SIGNERS_FIELD_NUMBER: _ClassVar[int]
        DELETE_LAYER_DECRYPTERS_FIELD_NUMBER: _ClassVar[int]
        ADD_MANIFEST_SIGNERS_FIELD_NUMBER: _ClassVar[int]
        ADD_LAYER_DECRYPTERS_FIELD_NUMBER: _ClassVar[int]
        delete_manifest_signers: _containers.RepeatedScalarFieldContainer[int]
        delete_layer_decrypters: _containers.RepeatedScalarFieldContainer[int]
        add_manifest_signers: _containers.RepeatedScalarFieldContainer[bytes]
        add_layer_decrypters: _containers.RepeatedCompositeFieldContainer[HpkeCiphertext]
        def __init__(self, delete_manifest_signers: _Optional[_Iterable[int]] = ..., delete_layer_decrypters: _Optional[_Iterable[int]] = ..., add_manifest_signers: _Optional[_Iterable[bytes]] = ..., add_layer_decrypters: _Optional[_Iterable[_Union[HpkeCiphertext, _Mapping]]] = ...) -> None: ...
    SIGNER_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signer_id: int
    body: NewKeys.Body
    signature: bytes
    def __init__(self, signer_id: _Optional[int] = ..., body: _Optional[_Union[NewKeys.Body, _Mapping]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class HpkeCiphertext(_message.Message):
    __slots__ = ("receiver_id", "sender_pub", "ciphertext")
    RECEIVER_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_PUB_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    receiver_id: int
    sender_pub: bytes
    ciphertext: bytes
    def __init__(self, receiver_id: _Optional[int] = ..., sender_pub: _Optional[bytes] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...
