# NetNat for tests: no NAT networks.

function Get-NetNat {
    [CmdletBinding()]
    param()
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "Get-NetNat`n")
}

function Get-NetNatStaticMapping {
    [CmdletBinding()]
    param()
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "Get-NetNatStaticMapping`n")
}
