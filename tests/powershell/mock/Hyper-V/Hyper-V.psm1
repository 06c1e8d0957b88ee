# A Hyper-V module for tests: the cmdlets that Vswitch.psm1 calls, on a state read from a JSON file.
# VSWITCH_MOCK_STATE: the state. VSWITCH_MOCK_LOG: a file that gets the name of every call.
# VSWITCH_MOCK_FAIL: "<cmdlet> <n>": the nth call of that cmdlet fails.

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$script:State = ConvertFrom-Json -InputObject ([IO.File]::ReadAllText($env:VSWITCH_MOCK_STATE))
$script:Calls = @{}
$script:Next = 0
foreach ($adapter in @($script:State.adapters)) {
    foreach ($entry in @($adapter.acls) + @($adapter.extendedAcls)) {
        $script:Next = $script:Next + 1
        Add-Member -InputObject $entry -NotePropertyName 'MockId' -NotePropertyValue $script:Next
    }
}

function Enter-MockCall {
    param([string] $Name)
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "$Name`n")
    $script:Calls[$Name] = 1 + [int] $script:Calls[$Name]
    if ("$Name $($script:Calls[$Name])" -eq $env:VSWITCH_MOCK_FAIL) {
        throw 'The operation failed. (0x80004005)'
    }
}

function New-MockEntry {
    param($Fields)
    $script:Next = $script:Next + 1
    $Fields['MockId'] = $script:Next
    return [pscustomobject] $Fields
}

function Get-MockAddress {
    param([string] $Text)
    if ($Text -eq '') {
        return 'ANY'
    }
    return $Text
}

function Get-VM {
    [CmdletBinding()]
    param()
    Enter-MockCall -Name 'Get-VM'
    foreach ($machine in @($script:State.vms)) {
        $machine
    }
}

function Get-VMNetworkAdapter {
    [CmdletBinding()]
    param([object[]] $VM = @(), [switch] $ManagementOS)
    Enter-MockCall -Name 'Get-VMNetworkAdapter'
    $ids = @($VM | ForEach-Object { $_.Id })
    foreach ($adapter in @($script:State.adapters)) {
        if ($ManagementOS -and $adapter.IsManagementOs) {
            $adapter
        }
        if (-not $ManagementOS -and -not $adapter.IsManagementOs -and $ids -contains $adapter.VMId) {
            $adapter
        }
    }
}

function Get-VMNetworkAdapterVlan {
    [CmdletBinding()]
    param($VMNetworkAdapter)
    Enter-MockCall -Name 'Get-VMNetworkAdapterVlan'
    $VMNetworkAdapter.vlan
}

function Get-VMNetworkAdapterIsolation {
    [CmdletBinding()]
    param($VMNetworkAdapter)
    Enter-MockCall -Name 'Get-VMNetworkAdapterIsolation'
    $VMNetworkAdapter.isolation
}

function Get-VMNetworkAdapterAcl {
    [CmdletBinding()]
    param($VMNetworkAdapter)
    Enter-MockCall -Name 'Get-VMNetworkAdapterAcl'
    foreach ($entry in @($VMNetworkAdapter.acls)) {
        $entry
    }
}

function Get-VMNetworkAdapterExtendedAcl {
    [CmdletBinding()]
    param($VMNetworkAdapter)
    Enter-MockCall -Name 'Get-VMNetworkAdapterExtendedAcl'
    foreach ($entry in @($VMNetworkAdapter.extendedAcls)) {
        $entry
    }
}

function Get-VMSwitch {
    [CmdletBinding()]
    param()
    Enter-MockCall -Name 'Get-VMSwitch'
    foreach ($one in @($script:State.switches)) {
        $one
    }
}

function Get-VMSwitchTeam {
    [CmdletBinding()]
    param()
    Enter-MockCall -Name 'Get-VMSwitchTeam'
    foreach ($one in @($script:State.teams)) {
        $one
    }
}

function Add-VMNetworkAdapterExtendedAcl {
    [CmdletBinding()]
    param(
        $VMNetworkAdapter,
        [ValidateSet('Allow', 'Deny')] [string] $Action,
        [ValidateSet('Inbound', 'Outbound')] [string] $Direction,
        [ValidateRange(1, 65535)] [int] $Weight,
        [string] $LocalIPAddress = '',
        [string] $RemoteIPAddress = '',
        [string] $LocalPort = 'ANY',
        [string] $RemotePort = 'ANY',
        [string] $Protocol = 'ANY',
        [Nullable[bool]] $Stateful = $false,
        [int] $IdleSessionTimeout = 0,
        [int] $IsolationID = 0
    )
    Enter-MockCall -Name 'Add-VMNetworkAdapterExtendedAcl'
    $number = [Array]::IndexOf(@('', 'Inbound', 'Outbound'), $Direction)
    foreach ($other in @($VMNetworkAdapter.extendedAcls)) {
        if ([int] $other.Direction -eq $number -and [int] $other.Weight -eq $Weight) {
            throw 'Cannot create a file when that file already exists. (0x800700B7)'
        }
    }
    $entry = New-MockEntry -Fields @{
        Direction = $number
        Action = [Array]::IndexOf(@('', 'Allow', 'Deny'), $Action)
        LocalIPAddress = Get-MockAddress -Text $LocalIPAddress
        RemoteIPAddress = Get-MockAddress -Text $RemoteIPAddress
        LocalPort = $LocalPort
        RemotePort = $RemotePort
        Protocol = $Protocol
        Weight = $Weight
        Stateful = [bool] $Stateful
        IdleSessionTimeout = $IdleSessionTimeout
        IsolationID = $IsolationID
    }
    $VMNetworkAdapter.extendedAcls = @($VMNetworkAdapter.extendedAcls) + $entry
}

function Add-VMNetworkAdapterAcl {
    [CmdletBinding()]
    param(
        $VMNetworkAdapter,
        [ValidateSet('Allow', 'Deny', 'Meter')] [string] $Action,
        [ValidateSet('Inbound', 'Outbound')] [string] $Direction,
        [string] $LocalIPAddress = '',
        [string] $LocalMacAddress = '',
        [string] $RemoteIPAddress = '',
        [string] $RemoteMacAddress = ''
    )
    Enter-MockCall -Name 'Add-VMNetworkAdapterAcl'
    $fields = @{
        Direction = [Array]::IndexOf(@('', 'Inbound', 'Outbound'), $Direction)
        Action = [Array]::IndexOf(@('', 'Allow', 'Deny', 'Meter'), $Action)
        LocalAddress = $LocalIPAddress + $LocalMacAddress
        LocalAddressType = 0
        RemoteAddress = $RemoteIPAddress + $RemoteMacAddress
        RemoteAddressType = 0
        MeteredMegabytes = ''
    }
    foreach ($side in @('Local', 'Remote')) {
        $text = [string] $fields["${side}Address"]
        $isMac = ($LocalMacAddress + $RemoteMacAddress) -ne ''
        if ($text -eq 'ANY' -and $isMac) {
            $fields["${side}AddressType"] = 7
        } elseif ($text -eq 'ANY') {
            $fields["${side}AddressType"] = 6
        } elseif ($text -eq '0.0.0.0/0') {
            $fields["${side}AddressType"] = 4
        } elseif ($text -eq '::/0') {
            $fields["${side}AddressType"] = 5
        } elseif ($text -ne '' -and $isMac) {
            $fields["${side}AddressType"] = 1
        } elseif ($text.Contains(':')) {
            $fields["${side}AddressType"] = 3
        } elseif ($text -ne '') {
            $fields["${side}AddressType"] = 2
        }
    }
    $VMNetworkAdapter.acls = @($VMNetworkAdapter.acls) + (New-MockEntry -Fields $fields)
}

function Remove-VMNetworkAdapterExtendedAcl {
    [CmdletBinding()]
    param([object[]] $InputObject)
    Enter-MockCall -Name 'Remove-VMNetworkAdapterExtendedAcl'
    $ids = @($InputObject | ForEach-Object { $_.MockId })
    foreach ($adapter in @($script:State.adapters)) {
        $adapter.extendedAcls = @($adapter.extendedAcls | Where-Object { $ids -notcontains $_.MockId })
    }
}

function Remove-VMNetworkAdapterAcl {
    [CmdletBinding()]
    param([object[]] $InputObject)
    Enter-MockCall -Name 'Remove-VMNetworkAdapterAcl'
    $ids = @($InputObject | ForEach-Object { $_.MockId })
    foreach ($adapter in @($script:State.adapters)) {
        $adapter.acls = @($adapter.acls | Where-Object { $ids -notcontains $_.MockId })
    }
}

Export-ModuleMember -Function @('Get-VM*', 'Add-VM*', 'Remove-VM*', 'Enter-MockCall')
