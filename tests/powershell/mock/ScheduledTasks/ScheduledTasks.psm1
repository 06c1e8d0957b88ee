# ScheduledTasks for tests: keeps what was registered in memory, runs nothing.

$script:Tasks = @{}

function Write-MockLog {
    param([string] $Name)
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "$Name`n")
}

function New-ScheduledTaskAction {
    [CmdletBinding()]
    param([string] $Execute, [string] $Argument)
    Write-MockLog -Name 'New-ScheduledTaskAction'
    [pscustomobject] @{ Execute = $Execute; Argument = $Argument }
}

function New-ScheduledTaskTrigger {
    [CmdletBinding()]
    param([switch] $Once, [switch] $AtStartup, [DateTime] $At = [DateTime]::MinValue)
    Write-MockLog -Name 'New-ScheduledTaskTrigger'
    [pscustomobject] @{ StartBoundary = $At.ToString('s') }
}

function New-ScheduledTaskPrincipal {
    [CmdletBinding()]
    param([string] $UserId, [string] $LogonType, [string] $RunLevel)
    Write-MockLog -Name 'New-ScheduledTaskPrincipal'
    [pscustomobject] @{ UserId = $UserId }
}

function New-ScheduledTaskSettingsSet {
    [CmdletBinding()]
    param(
        [switch] $StartWhenAvailable,
        [switch] $AllowStartIfOnBatteries,
        [switch] $DontStopIfGoingOnBatteries,
        [string] $MultipleInstances
    )
    Write-MockLog -Name 'New-ScheduledTaskSettingsSet'
    [pscustomobject] @{}
}

function Register-ScheduledTask {
    [CmdletBinding()]
    param([string] $TaskName, [string] $TaskPath, $Action, $Trigger, $Principal, $Settings, [switch] $Force)
    Write-MockLog -Name 'Register-ScheduledTask'
    $script:Tasks[$TaskName] = @($Trigger)[0].StartBoundary
}

function Unregister-ScheduledTask {
    [CmdletBinding(SupportsShouldProcess = $true)]
    param([string] $TaskName, [string] $TaskPath)
    Write-MockLog -Name 'Unregister-ScheduledTask'
    if (-not $script:Tasks.ContainsKey($TaskName)) {
        throw 'No such scheduled task'
    }
    $script:Tasks.Remove($TaskName)
}
