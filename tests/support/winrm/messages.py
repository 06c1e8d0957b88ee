"""WS-Management messages as the endpoint for tests reads and writes them."""

from __future__ import annotations

import re
import uuid
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

OPERATION_TIMEOUT = 2150858793
INVALID_SHELL = 2150858843
TOO_MANY_SHELLS = 2150859173
ACCESS_DENIED = 5
PIPE_CLOSED = 232
BAD_COMMAND = 2150859079


SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
RSP = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
MESSAGES = {
    f"{TRANSFER}/Create": "Create",
    f"{TRANSFER}/Delete": "Delete",
    **{f"{RSP}/{name}": name for name in ("Command", "Send", "Receive", "Signal")},
}


class WsmanFault(Exception):
    def __init__(self, code: int, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


def tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def text_of(envelope: ET.Element, name: str) -> str:
    return next((item.text or "" for item in envelope.iter() if tag(item) == name), "")


def selector(envelope: ET.Element) -> str:
    return next((i.text or "" for i in envelope.iter() if i.get("Name") == "ShellId"), "")


def operation_seconds(envelope: ET.Element) -> float:
    found = re.fullmatch(r"PT([\d.]+)S", text_of(envelope, "OperationTimeout"))
    return float(found[1]) if found else 60.0


def envelope_of(request: ET.Element, message: str, body: str) -> bytes:
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}"><s:Header>'
        f"<a:Action>{message}Response</a:Action><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
        f"<a:RelatesTo>{escape(text_of(request, 'MessageID'))}</a:RelatesTo>"
        f"</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def fault_body(error: WsmanFault) -> str:
    text = escape(error.text)
    return (
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:InternalError</s:Value>"
        f'</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="{FAULT}" Code="{error.code}" Machine="endpoint"><f:Message>{text}'
        "</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
