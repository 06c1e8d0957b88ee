# NetTCPIP for tests: the host's own addresses in the state, each on a link of its own.

$script:State = ConvertFrom-Json -InputObject ([IO.File]::ReadAllText($env:VSWITCH_MOCK_STATE))

function Get-NetIPAddress {
    [CmdletBinding()]
    param()
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "Get-NetIPAddress`n")
    $index = 0
    foreach ($address in @($script:State.addresses)) {
        $index = $index + 1
        [pscustomobject] @{
            InterfaceIndex = $index
            IPAddress = $address.IPAddress
            PrefixLength = $address.PrefixLength
        }
    }
}
