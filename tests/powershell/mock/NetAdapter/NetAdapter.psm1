# NetAdapter for tests: a link for each of the host's own addresses in the state.

$script:State = ConvertFrom-Json -InputObject ([IO.File]::ReadAllText($env:VSWITCH_MOCK_STATE))

function Get-NetAdapter {
    [CmdletBinding()]
    param()
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "Get-NetAdapter`n")
    $index = 0
    foreach ($address in @($script:State.addresses)) {
        $index = $index + 1
        [pscustomobject] @{
            InterfaceIndex = $index
            MacAddress = $address.MacAddress
        }
    }
}
